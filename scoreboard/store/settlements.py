"""Settlements: what is claimed, judged and written in one transaction, with a row that says whether it was told.

The statements cost a worker most of its time, so each is prepared, takes arrays and does
all there is to do in one round trip.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa
from psycopg2.errors import LockNotAvailable
from sqlalchemy.exc import OperationalError

from scoreboard.domain.accounts import Status
from scoreboard.domain.ledger import LedgerEntry
from scoreboard.store.actions import ActionOutcome
from scoreboard.store.prepared import Prepared, array, text_array, uuid_array
from scoreboard.store.statements import Statement
from scoreboard.store.transactions import bound_lock_wait


class PlayersBusyError(Exception):
    """A player's row is locked for longer than any of our statements takes: by an operator, or a stuck connection."""


class AcceptedAction(NamedTuple):
    """An action that waits to be settled; locked."""

    id: UUID
    user_id: UUID
    issued_by: UUID | None
    action_type: str
    metadata: Mapping[str, object]
    issued_at: datetime
    accepted_at: datetime | None
    # As a game server told it; see ``played_at``.
    completed_at: datetime | None
    completion_time_ms: int | None
    reported_points: int | None

    @property
    def played_at(self) -> datetime | None:
        """The time of completion that the rules judge: the game server's, else that of the acceptance."""
        return self.completed_at or self.accepted_at


class LockedPlayer(NamedTuple):
    """A player whose actions are being settled, locked, with the times of their latest completions."""

    id: UUID
    username: str
    status: str
    is_hidden: bool
    score: int
    score_reached_at: datetime
    standing_version: int
    total_actions: int
    last_action_at: datetime | None
    ledger_seq: int
    ledger_hash: bytes
    recent: list[datetime] | None


class CompletionTimes(NamedTuple):
    """When a player completed actions, in no order."""

    user_id: UUID
    moments: list[datetime]


class Judged(NamedTuple):
    """An action's outcome, and its ledger entry if it was applied."""

    action: AcceptedAction
    outcome: ActionOutcome
    entry: LedgerEntry | None


class ScoreChange(NamedTuple):
    """The new state of one player after a batch of ledger entries."""

    user_id: UUID
    score: int
    reached_at: datetime
    standing_version: int
    ledger_seq: int
    ledger_hash: bytes
    total_actions: int
    last_action_at: datetime | None
    status: Status


class Unannounced(NamedTuple):
    """A settlement whose outcomes have perhaps not reached Redis."""

    id: UUID
    action_ids: Sequence[UUID]


class SettlementRanks(NamedTuple):
    """Ranks before and after a settlement, in the order of its actions; None for those without."""

    previous_ranks: Sequence[int | None]
    ranks: Sequence[int | None]


_LOCK_ACCEPTED = Prepared("lock_accepted", AcceptedAction, begins_transaction=True)
_LOCK_OLDEST = Prepared("lock_oldest", AcceptedAction, begins_transaction=True)
_LOCK_PLAYERS = Prepared("lock_players", LockedPlayer)
_LOCK_FREE_PLAYERS = Prepared("lock_free_players", LockedPlayer)
_COMPLETION_TIMES = Prepared("completion_times", CompletionTimes)
_WRITE = Prepared("write_settlement", tuple)
_FIND_UNANNOUNCED = Statement("find_unannounced", Unannounced)
_SET_RANKS = Prepared("set_ranks", SettlementRanks)
_ANNOUNCE = Prepared("announce_settlement", tuple)


def lock_accepted(connection: sa.Connection, action_ids: Sequence[UUID]) -> list[AcceptedAction]:
    """Lock those that are still to be settled and not in another worker's hands, in the order of acceptance."""
    return _LOCK_ACCEPTED.fetch(connection, action_ids=uuid_array(action_ids))


def lock_oldest(
    connection: sa.Connection, *, older_than_s: float, limit: int, passing_over: Collection[UUID] = ()
) -> list[AcceptedAction]:
    """Lock actions accepted some seconds ago and not settled, oldest first, skipping those that others have locked."""
    older_than = timedelta(seconds=older_than_s)
    return _LOCK_OLDEST.fetch(connection, older_than=older_than, limit=limit, passing_over=uuid_array(passing_over))


def lock_players(
    connection: sa.Connection, user_ids: Sequence[UUID], *, since: datetime, wait_s: float | None
) -> list[LockedPlayer]:
    """Lock these players until the transaction ends, always in id order so that two lockers never deadlock.

    ``since`` bounds the acceptances whose times of completion come with each player. Without ``wait_s``, players
    that are locked elsewhere are left out. With it, PlayersBusyError says that one of them was not free in time.
    """
    ids = uuid_array(user_ids)
    if wait_s is None:
        return _LOCK_FREE_PLAYERS.fetch(connection, user_ids=ids, since=since)
    bound_lock_wait(connection, wait_s)
    try:
        return _LOCK_PLAYERS.fetch(connection, user_ids=ids, since=since)
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise PlayersBusyError from error
        raise


def completion_times(connection: sa.Connection, since: Mapping[UUID, datetime]) -> dict[UUID, list[datetime]]:
    """The times of completion of what was accepted of these players, of each since a moment of its own."""
    rows = _COMPLETION_TIMES.fetch(connection, user_ids=uuid_array(since), since=array(since.values()))
    return {row.user_id: row.moments for row in rows}


def write_settlement(
    connection: sa.Connection, settlement_id: UUID, judged: Sequence[Judged], changes: Sequence[ScoreChange]
) -> int:
    """Write outcomes, ledger, scores, audit and the settlement itself in one statement.

    The audit log has rows of those that were not applied; the others it shows from here.

    Guarded by the actions' state; returns how many of them were settled. The unique key
    of the ledger refuses a second entry for the same action.
    """
    arrays = _judged_arrays(judged) | _change_arrays(changes)
    return int(_WRITE.fetch_value(connection, settlement_id=settlement_id, **arrays))


def _judged_arrays(judged: Sequence[Judged]) -> dict[str, str]:
    actions = [row.action for row in judged]
    outcomes = [row.outcome for row in judged]
    entries = [row.entry for row in judged]
    return {
        "ids": uuid_array([action.id for action in actions]),
        "user_ids": uuid_array([action.user_id for action in actions]),
        "actor_ids": uuid_array([action.issued_by or action.user_id for action in actions]),
        "action_types": text_array([action.action_type for action in actions]),
        "states": array([outcome.state.value for outcome in outcomes]),
        "reasons": text_array([outcome.reason for outcome in outcomes]),
        "reason_details": text_array([_json(outcome.reason_details) for outcome in outcomes]),
        "risks": array([outcome.risk for outcome in outcomes]),
        "increments": array([outcome.score_increment for outcome in outcomes]),
        "previous_scores": array([outcome.previous_score for outcome in outcomes]),
        "new_scores": array([outcome.new_score for outcome in outcomes]),
        "versions": array([outcome.standing_version for outcome in outcomes]),
        "entered_at": array([entry and entry.at for entry in entries]),
        "seqs": array([entry and entry.seq for entry in entries]),
        "previous_hashes": array([entry and entry.previous_hash.hex() for entry in entries]),
        "hashes": array([entry and entry.hash.hex() for entry in entries]),
    }


def _json(details: Mapping[str, object] | None) -> str | None:
    return None if details is None else orjson.dumps(details).decode()


def _change_arrays(changes: Sequence[ScoreChange]) -> dict[str, str]:
    return {
        "changed_ids": uuid_array([change.user_id for change in changes]),
        "changed_scores": array([change.score for change in changes]),
        "changed_reached_at": array([change.reached_at for change in changes]),
        "changed_versions": array([change.standing_version for change in changes]),
        "changed_seqs": array([change.ledger_seq for change in changes]),
        "changed_hashes": array([change.ledger_hash.hex() for change in changes]),
        "changed_actions": array([change.total_actions for change in changes]),
        "changed_last_action_at": array([change.last_action_at for change in changes]),
        "changed_statuses": array([change.status.value for change in changes]),
    }


def find_unannounced(connection: sa.Connection, *, older_than_s: float, limit: int) -> list[Unannounced]:
    """The oldest settlements that are not announced, settled some seconds ago or earlier."""
    return _FIND_UNANNOUNCED.fetch(connection, older_than=timedelta(seconds=older_than_s), limit=limit)


def set_ranks(connection: sa.Connection, settlement_id: UUID, wanted: SettlementRanks) -> SettlementRanks:
    """Set a settlement's ranks unless they are set; returns those that hold from now on.

    Its outcomes may be told only then: every process tells the same.
    """
    set_ones = _SET_RANKS.fetch_one(
        connection, settlement_id=settlement_id, previous_ranks=array(wanted.previous_ranks), ranks=array(wanted.ranks)
    )
    return set_ones or wanted


def write_announced(connection: sa.Connection, settlement_id: UUID) -> None:
    """Note that a settlement's outcomes have been published."""
    _ANNOUNCE.execute(connection, settlement_id=settlement_id)
