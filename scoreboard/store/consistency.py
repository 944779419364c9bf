"""Reads accounts, actions and ledger for the proof that they agree."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from scoreboard.store.statements import Statement


class LedgerHead(NamedTuple):
    """The head of a ledger as its account has it: the score, when it was reached, and the last entry."""

    id: UUID
    score: int
    score_reached_at: datetime
    ledger_seq: int
    ledger_hash: bytes
    created_at: datetime


class UnbalancedAction(NamedTuple):
    """An action whose ledger entries are not what its state and its points call for."""

    id: UUID
    state: str
    entries: int


_STREAM_LEDGER_HEADS = Statement("stream_ledger_heads", LedgerHead)
_FIND_UNBALANCED_ACTIONS = Statement("find_unbalanced_actions", UnbalancedAction)
_FIND_UNKNOWN_ACTIONS = Statement("find_unknown_actions", tuple)


def read_ledger_heads(connection: sa.Connection, *, batch: int) -> dict[UUID, LedgerHead]:
    """Every account's, read through a server-side cursor of ``batch`` rows."""
    return {head.id: head for head in _STREAM_LEDGER_HEADS.stream(connection, batch=batch)}


def find_unbalanced_actions(connection: sa.Connection) -> list[UnbalancedAction]:
    """Applied actions without exactly one entry of their own points, and others with any."""
    return _FIND_UNBALANCED_ACTIONS.fetch(connection)


def find_unknown_actions(connection: sa.Connection) -> list[UUID]:
    """Actions named in the ledger that don't exist."""
    return [action_id for (action_id,) in _FIND_UNKNOWN_ACTIONS.fetch(connection)]
