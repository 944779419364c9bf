"""Settlements: what is claimed, judged and written in one transaction, with a row that says whether it was told.

The statements cost a worker most of its time, so each is prepared, takes arrays and does
all there is to do in one round trip.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa
from psycopg2.errors import LockNotAvailable
from sqlalchemy.exc import OperationalError

from scoreboard.domain.accounts import Status
from scoreboard.domain.ledger import LedgerEntry
from scoreboard.store.actions import Outcome
from scoreboard.store.prepared import Prepared, array, text_array, uuid_array
from scoreboard.store.tables import settlements


class PlayersBusyError(Exception):
    """Somebody holds a player's row for longer than any statement of ours: an operator, or a stuck connection."""


class Accepted(NamedTuple):
    """An action that waits to be settled; locked."""

    id: UUID
    user_id: UUID
    issued_by: UUID | None
    action_type: str
    metadata: Mapping[str, object]
    issued_at: datetime
    accepted_at: datetime | None
    completion_time_ms: int | None
    reported_points: int | None


class Player(NamedTuple):
    """A player whose actions are being settled, locked, with the latest acceptances; oldest first."""

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


class Judged(NamedTuple):
    """An action's outcome, and its ledger entry if it was applied."""

    action: Accepted
    outcome: Outcome
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


_ACCEPTED = ", ".join(Accepted._fields)
# Asked so that the partial index of unsettled rows can't be taken for a short way: while an old
# transaction is open it is full of settled ones.
_IS_ACCEPTED = "actions.state || '' = 'accepted'"

_LOCK = Prepared(
    "lock_accepted",
    ["uuid[]"],
    f"SELECT {_ACCEPTED} FROM actions WHERE id = ANY ($1) AND {_IS_ACCEPTED} "  # noqa: S608  # our own column names
    "ORDER BY accepted_at, id FOR NO KEY UPDATE SKIP LOCKED",
)
_LOCK_OLDEST = Prepared(
    "lock_oldest",
    ["interval", "integer", "uuid[]"],
    f"SELECT {_ACCEPTED} FROM actions WHERE state = 'accepted' AND accepted_at < now() - $1 "  # noqa: S608
    "AND id <> ALL ($3) ORDER BY accepted_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
)
_PLAYERS = """
    SELECT id, username, status, is_hidden, score, score_reached_at, standing_version, total_actions, last_action_at,
           ledger_seq, ledger_hash,
           (SELECT array_agg(accepted_at ORDER BY accepted_at) FROM actions
            WHERE user_id = users.id AND accepted_at > $2)
    FROM users WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE
    """
_LOCK_PLAYERS = Prepared("lock_players", ["uuid[]", "timestamptz"], _PLAYERS)
_LOCK_FREE_PLAYERS = Prepared("lock_free_players", ["uuid[]", "timestamptz"], _PLAYERS + "SKIP LOCKED")
_WRITE = Prepared(
    "write_settlement",
    [
        *("uuid", "uuid[]", "uuid[]", "uuid[]", "text[]", "text[]", "text[]", "float8[]", "bigint[]", "bigint[]"),
        *("bigint[]", "bigint[]", "timestamptz[]", "bigint[]", "text[]", "text[]"),
        *("uuid[]", "bigint[]", "timestamptz[]", "bigint[]", "bigint[]", "text[]", "bigint[]", "timestamptz[]"),
        *("text[]", "text[]"),
    ],
    f"""
    WITH new AS MATERIALIZED (
        SELECT * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $26)
            AS new (id, user_id, actor_id, action_type, state, reason, risk, increment, previous, score, version,
                    at, seq, previous_hash, hash, reason_details)
    ),
    noted AS (INSERT INTO settlements (id, action_ids, shows_in_audit) VALUES ($1, $2, true) RETURNING settled_at),
    settled AS (
        UPDATE actions SET state = new.state, reason = new.reason, reason_details = new.reason_details::jsonb,
               risk = new.risk, settled_at = noted.settled_at, score_increment = new.increment,
               previous_score = new.previous, new_score = new.score, standing_version = new.version, settlement_id = $1
        FROM new, noted WHERE actions.id = new.id AND {_IS_ACCEPTED}
        RETURNING actions.id, actions.ip, actions.user_agent
    ),
    entered AS (
        INSERT INTO score_history (user_id, seq, at, action_id, action_type, previous_score, increment, new_score,
                                   previous_hash, hash)
        SELECT user_id, seq, at, id, action_type, previous, increment, score, decode(previous_hash, 'hex'),
               decode(hash, 'hex')
        FROM new WHERE seq IS NOT NULL
    ),
    scored AS (
        UPDATE users SET score = changed.score, score_reached_at = changed.reached_at,
               standing_version = changed.version, ledger_seq = changed.seq, ledger_hash = decode(changed.hash, 'hex'),
               total_actions = changed.actions, last_action_at = changed.last_action_at, status = changed.status,
               updated_at = clock_timestamp()
        FROM unnest($17, $18, $19, $20, $21, $22, $23, $24, $25)
             AS changed (id, score, reached_at, version, seq, hash, actions, last_action_at, status)
        WHERE users.id = changed.id
    ),
    audited AS (
        INSERT INTO audit_log (event, actor_id, target_id, ip, user_agent, result, risk, details)
        SELECT 'action.' || state, actor_id, user_id, settled.ip, settled.user_agent,
               CASE state WHEN 'failed' THEN 'error' ELSE 'denied' END, risk,
               jsonb_build_object('actionId', id, 'actionType', action_type, 'increment', increment, 'reason', reason)
        -- Action and ledger entry say all there is about those that were applied: see store/audit.py.
        FROM new JOIN settled USING (id) WHERE state <> 'applied'
    )
    SELECT count(*) FROM settled
    """,  # noqa: S608  # our own words
)
# The first ones stay. Of two at once the second waits for the first, and sees what it wrote.
_SET_RANKS = Prepared(
    "set_ranks",
    ["uuid", "bigint[]", "bigint[]"],
    """
    UPDATE settlements SET previous_ranks = coalesce(previous_ranks, $2), ranks = coalesce(ranks, $3)
    WHERE id = $1 RETURNING previous_ranks, ranks
    """,
)
# Lost in a crash of Postgres it is only told again, so nobody waits for its disk.
_ANNOUNCE = Prepared(
    "announce_settlement",
    ["uuid"],
    """
    UPDATE settlements SET announced_at = clock_timestamp()
    FROM (SELECT set_config('synchronous_commit', 'off', true) AS setting) AS quickly
    WHERE id = $1 AND announced_at IS NULL AND quickly.setting = 'off'
    """,
)


def lock_accepted(connection: sa.Connection, action_ids: Sequence[UUID]) -> list[Accepted]:
    """Lock those that are still to be settled and not in another worker's hands, in the order of acceptance."""
    return _accepted(_LOCK.fetch(connection, uuid_array(action_ids)))


def lock_oldest(
    connection: sa.Connection, *, older_than_s: float, limit: int, passing_over: Collection[UUID] = ()
) -> list[Accepted]:
    """Lock accepted actions that nobody has settled for some seconds, oldest first, skipping those in hand."""
    older_than = timedelta(seconds=older_than_s)
    return _accepted(_LOCK_OLDEST.fetch(connection, older_than, limit, uuid_array(passing_over)))


def _accepted(rows: Iterable[tuple[Any, ...]]) -> list[Accepted]:
    return [Accepted._make(row) for row in rows]


def lock_players(
    connection: sa.Connection, user_ids: Sequence[UUID], *, since: datetime, wait_s: float | None
) -> list[Player]:
    """Lock these players until the transaction ends, always in id order so that two lockers never wait in a ring.

    With the moments since then at which actions of theirs were accepted. Without ``wait_s`` those in
    other hands are left out; with it a PlayersBusyError says that one of them was not free in time.
    """
    arguments = (uuid_array(user_ids), since)
    if wait_s is None:
        return [Player._make(row) for row in _LOCK_FREE_PLAYERS.fetch(connection, *arguments)]
    connection.exec_driver_sql("SELECT set_config('lock_timeout', %s, true)", (f"{wait_s * 1000:.0f}ms",))
    try:
        return [Player._make(row) for row in _LOCK_PLAYERS.fetch(connection, *arguments)]
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise PlayersBusyError from error
        raise


def write_settlement(
    connection: sa.Connection, settlement_id: UUID, judged: Sequence[Judged], changes: Sequence[ScoreChange]
) -> int:
    """Write outcomes, ledger, scores, audit and the settlement itself in one statement.

    The audit log has rows of those that were not applied; the others it shows from here.

    Guarded by the actions' state; returns how many of them were settled. The unique key
    of the ledger refuses a second entry for the same action.
    """
    arrays = (*_judged_arrays(judged), *_change_arrays(changes), _reason_details(judged))
    ((settled,),) = _WRITE.fetch(connection, settlement_id, *arrays)
    return int(settled)


def _judged_arrays(judged: Sequence[Judged]) -> Iterable[str]:
    actions = [each.action for each in judged]
    outcomes = [each.outcome for each in judged]
    entries = [each.entry for each in judged]
    yield uuid_array([action.id for action in actions])
    yield uuid_array([action.user_id for action in actions])
    yield uuid_array([action.issued_by or action.user_id for action in actions])
    yield text_array([action.action_type for action in actions])
    yield array([outcome.state.value for outcome in outcomes])
    yield text_array([outcome.reason for outcome in outcomes])
    yield array([outcome.risk for outcome in outcomes])
    yield array([outcome.score_increment for outcome in outcomes])
    yield array([outcome.previous_score for outcome in outcomes])
    yield array([outcome.new_score for outcome in outcomes])
    yield array([outcome.standing_version for outcome in outcomes])
    yield array([entry and entry.at for entry in entries])
    yield array([entry and entry.seq for entry in entries])
    yield array([entry and entry.previous_hash.hex() for entry in entries])
    yield array([entry and entry.hash.hex() for entry in entries])


def _reason_details(judged: Sequence[Judged]) -> str:
    details = [each.outcome.reason_details for each in judged]
    return text_array([None if each is None else orjson.dumps(each).decode() for each in details])


def _change_arrays(changes: Sequence[ScoreChange]) -> Iterable[str]:
    yield uuid_array([change.user_id for change in changes])
    yield array([change.score for change in changes])
    yield array([change.reached_at for change in changes])
    yield array([change.standing_version for change in changes])
    yield array([change.ledger_seq for change in changes])
    yield array([change.ledger_hash.hex() for change in changes])
    yield array([change.total_actions for change in changes])
    yield array([change.last_action_at for change in changes])
    yield array([change.status.value for change in changes])


@dataclass(frozen=True, slots=True)
class Unannounced:
    """A settlement whose outcomes have perhaps not reached Redis."""

    id: UUID
    action_ids: Sequence[UUID]


def find_unannounced(connection: sa.Connection, *, older_than_s: float, limit: int) -> list[Unannounced]:
    """The oldest settlements that nobody has announced for some seconds."""
    rows = connection.execute(
        sa.select(settlements.c.id, settlements.c.action_ids)
        .where(
            settlements.c.settled_at < sa.func.now() - timedelta(seconds=older_than_s),
            settlements.c.announced_at.is_(None),
        )
        .order_by(settlements.c.settled_at)
        .limit(limit)
    )
    return [Unannounced(row.id, row.action_ids) for row in rows]


Ranks = Sequence[int | None]


def set_ranks(
    connection: sa.Connection, settlement_id: UUID, previous_ranks: Ranks, ranks: Ranks
) -> tuple[Ranks, Ranks]:
    """Set a settlement's ranks, in the order of its actions, unless they are set; returns those that hold from now on.

    Only then may its outcomes be told: whoever tells one tells the same.
    """
    rows = _SET_RANKS.fetch(connection, settlement_id, array(previous_ranks), array(ranks))
    return (rows[0][0], rows[0][1]) if rows else (previous_ranks, ranks)


def write_announced(connection: sa.Connection, settlement_id: UUID) -> None:
    """Note that a settlement's outcomes have been published."""
    _ANNOUNCE.execute(connection, settlement_id)
