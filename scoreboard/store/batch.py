"""Batches of game servers: finished actions of many players, taken in by one statement, each external id once.

An external id is the game server's own name for an action, and remembered per account. Both statements
recheck the caller, as those of ``intake`` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa

from scoreboard.domain.accounts import Role, Status
from scoreboard.store.audit import Origin
from scoreboard.store.intake import ServedPlayer
from scoreboard.store.prepared import Prepared, array, text_array, uuid_array
from scoreboard.store.sessions import Caller
from scoreboard.store.statements import Statement

#: For how long the same external id gets the first answer.
KEEP = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class BatchAction:
    """A finished action with the id that it gets if it is taken in; the digest tells its contents from others."""

    action_id: UUID
    external_id: str
    digest: bytes
    user_id: UUID
    action_type: str
    metadata: Mapping[str, object]
    started_at: datetime
    completed_at: datetime
    completion_time_ms: int
    points: int | None
    data: str | None


class Kept(NamedTuple):
    """The action that an external id has named before."""

    action_id: UUID
    digest: bytes


@dataclass(frozen=True, slots=True)
class BatchLookup:
    """What the database knows of a batch; the lists go by its rows."""

    now: datetime
    is_caller: bool
    players: Sequence[ServedPlayer | None]
    kept: Sequence[Kept | None]


class LookedUp(NamedTuple):
    now: datetime
    is_caller: bool
    nth: int | None
    role: str | None
    status: str | None
    action_id: UUID | None
    body_digest: bytes | None


_LOOK_UP = Prepared("look_up_batch", LookedUp)
_ACCEPT = Prepared("accept_batch", tuple)
_DELETE_OLD = Statement("delete_old_external_ids", tuple)


def look_up_batch(connection: sa.Connection, caller: Caller, asked: Sequence[tuple[UUID, str]]) -> BatchLookup:
    """Caller, players and external ids of a batch, ``asked`` by player and external id of each row."""
    rows = _LOOK_UP.fetch(
        connection,
        **_caller(caller),
        user_ids=uuid_array([user_id for user_id, _ in asked]),
        external_ids=text_array([external_id for _, external_id in asked]),
    )
    found = rows if asked else ()
    return BatchLookup(
        rows[0].now,
        rows[0].is_caller,
        [
            ServedPlayer(user_id, Role(row.role), Status(row.status)) if row.role and row.status else None
            for row, (user_id, _) in zip(found, asked, strict=True)
        ],
        [Kept(row.action_id, bytes(row.body_digest)) if row.action_id and row.body_digest else None for row in found],
    )


def accept_batch(
    connection: sa.Connection, caller: Caller, actions: Sequence[BatchAction], origin: Origin
) -> set[UUID]:
    """Take these in as accepted ones; returns the ids of those that were.

    Left out are those whose external id is remembered, or that no longer have a player who may play;
    all are when the caller has changed. No two may have the same external id. ``connection`` commits by itself.
    """
    rows = _ACCEPT.fetch(
        connection,
        **_caller(caller),
        ip=origin.ip,
        user_agent=origin.short_agent,
        ids=uuid_array([action.action_id for action in actions]),
        external_ids=text_array([action.external_id for action in actions]),
        digests=array([action.digest.hex() for action in actions]),
        user_ids=uuid_array([action.user_id for action in actions]),
        action_types=text_array([action.action_type for action in actions]),
        metadata=text_array([orjson.dumps(action.metadata).decode() for action in actions]),
        started_at=array([action.started_at for action in actions]),
        completed_at=array([action.completed_at for action in actions]),
        completion_times_ms=array([action.completion_time_ms for action in actions]),
        points=array([action.points for action in actions]),
        data=text_array([action.data for action in actions]),
    )
    return {action_id for (action_id,) in rows}


def _caller(caller: Caller) -> dict[str, object]:
    return {
        "session_id": caller.session_id,
        "caller_id": caller.user_id,
        "role": caller.role.value,
        "status": caller.status.value,
        "keep": KEEP,
    }


def delete_old(connection: sa.Connection, *, limit: int) -> int:
    """Forget external ids whose time is over, the oldest first; returns how many, ``limit`` at most."""
    return _DELETE_OLD.execute(connection, keep=KEEP, limit=limit)
