"""Taking actions in: issuing tokens and accepting completions, many requests in one statement.

A row counts only if its caller is still who they were taken for: the session lives, and
account, role and status are unchanged. Each statement is one transaction and one round
trip: it is committed when the call returns. Locks are taken in one order everywhere, so
that two processes never wait in a ring.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.actions import State
from scoreboard.store.prepared import Prepared, array, text_array, uuid_array
from scoreboard.store.sessions import Caller
from scoreboard.store.tables import actions, users


@dataclass(frozen=True, slots=True)
class Issue:
    """An action to be issued."""

    action_id: UUID
    caller: Caller
    user_id: UUID
    issued_by: UUID | None
    action_type: str
    metadata: Mapping[str, object]
    token_hash: bytes
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Issued:
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A completion whose token and proof have been checked."""

    action_id: UUID
    caller: Caller
    user_id: UUID
    token_hash: bytes
    completion_time_ms: int
    reported_points: int | None
    data: str | None
    body_digest: bytes
    ip: str | None
    user_agent: str | None


# Looked up row by row, whatever the planner thinks of the tables.
_IS_CALLER = """(
    SELECT users.id = new.caller_id AND users.role = new.role AND users.status = new.status
           AND sessions.revoked_at IS NULL AND sessions.expires_at > now()
    FROM sessions JOIN users ON users.id = sessions.user_id
    WHERE sessions.id = new.session_id
)"""
_CALLER_TYPES = ["uuid[]", "uuid[]", "text[]", "text[]"]
_CALLER_COLUMNS = "session_id, caller_id, role, status"

# One open-token count per user at a time, so that parallel requests can't pass the cap
# together; the locks end with the transaction. The key is the low half of the user's id.
# A statement of its own: the count's snapshot must begin when the locks are held.
_LOCK = Prepared(
    "lock_open_actions",
    ["bigint[]"],
    "SELECT pg_advisory_xact_lock(each) FROM (SELECT unnest($1) AS each ORDER BY 1) AS keys",
)
_ISSUE = Prepared(
    "issue_actions",
    [*_CALLER_TYPES, "uuid[]", "uuid[]", "uuid[]", "text[]", "text[]", "text[]", "integer[]", "integer"],
    f"""
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
    wanted AS (
        SELECT new.*, row_number() OVER (PARTITION BY new.user_id ORDER BY new.place) AS nth
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) WITH ORDINALITY
             AS new ({_CALLER_COLUMNS}, id, user_id, issued_by, action_type, metadata, token_hash, ttl_s, place)
        WHERE {_IS_CALLER}
    )
    INSERT INTO actions (id, user_id, issued_by, action_type, metadata, token_hash, issued_at, expires_at)
    SELECT wanted.id, wanted.user_id, wanted.issued_by, wanted.action_type, wanted.metadata::jsonb,
           decode(wanted.token_hash, 'hex'), clock.now, clock.now + wanted.ttl_s * interval '1 second'
    FROM wanted, clock
    WHERE wanted.nth + (SELECT count(*) FROM actions
                        WHERE user_id = wanted.user_id AND state = 'issued' AND expires_at > clock.now) <= $12
    RETURNING id, issued_at, expires_at
    """,  # noqa: S608 - made of constants only
)
_ACCEPT = Prepared(
    "accept_actions",
    [*_CALLER_TYPES, "uuid[]", "uuid[]", "text[]", "bigint[]", "bigint[]", "text[]", "text[]", "inet[]", "text[]"],
    f"""
    WITH new AS (
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             AS new ({_CALLER_COLUMNS},
                     id, user_id, token_hash, completion_time_ms, points, data, digest, ip, user_agent)
        WHERE {_IS_CALLER}
    ),
    open AS MATERIALIZED (
        SELECT id FROM actions WHERE id = ANY ($5) AND state = 'issued' ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE actions SET state = 'accepted', accepted_at = clock_timestamp(), completion_time_ms = new.completion_time_ms,
           reported_points = new.points, data = new.data, body_digest = decode(new.digest, 'hex'), ip = new.ip,
           user_agent = new.user_agent
    FROM new JOIN open ON open.id = new.id
    WHERE actions.id = new.id AND actions.user_id = new.user_id AND actions.token_hash = decode(new.token_hash, 'hex')
          AND actions.state = 'issued' AND actions.expires_at > clock_timestamp()
    RETURNING actions.id, new.digest
    """,  # noqa: S608 - made of constants only
)


def issue(connection: sa.Connection, wanted: Sequence[Issue], *, max_open: int) -> dict[UUID, Issued]:
    """Store issued actions, in order as far as their players have fewer than ``max_open`` open ones; returns those.

    ``connection`` commits by itself.
    """
    rows = _ISSUE.fetch_after(
        _LOCK,
        [array(sorted({_lock_key(each.user_id) for each in wanted}))],
        connection,
        *_callers(wanted),
        uuid_array([each.action_id for each in wanted]),
        uuid_array([each.user_id for each in wanted]),
        array([each.issued_by for each in wanted]),
        text_array([each.action_type for each in wanted]),
        text_array([orjson.dumps(each.metadata).decode() for each in wanted]),
        array([each.token_hash.hex() for each in wanted]),
        array([each.ttl_s for each in wanted]),
        max_open,
    )
    return {action_id: Issued(issued_at, expires_at) for action_id, issued_at, expires_at in rows}


def accept(connection: sa.Connection, completions: Sequence[Acceptance]) -> set[tuple[UUID, bytes]]:
    """Accept those that are issued, unexpired and match; returns (action, digest of the body) of each.

    The row's own state is the guard, and the database's clock decides on expiry. Of
    several completions of one action one is accepted. ``connection`` commits by itself.
    """
    rows = _ACCEPT.fetch(
        connection,
        *_callers(completions),
        uuid_array([each.action_id for each in completions]),
        uuid_array([each.user_id for each in completions]),
        array([each.token_hash.hex() for each in completions]),
        array([each.completion_time_ms for each in completions]),
        array([each.reported_points for each in completions]),
        text_array([each.data for each in completions]),
        array([each.body_digest.hex() for each in completions]),
        array([each.ip for each in completions]),
        text_array([each.user_agent for each in completions]),
    )
    return {(action_id, bytes.fromhex(digest)) for action_id, digest in rows}


def _callers(rows: Sequence[Issue | Acceptance]) -> tuple[str, str, str, str]:
    callers = [row.caller for row in rows]
    return (
        uuid_array([each.session_id for each in callers]),
        uuid_array([each.user_id for each in callers]),
        array([each.role.value for each in callers]),
        array([each.status.value for each in callers]),
    )


def next_expiries_s(connection: sa.Connection, user_ids: Collection[UUID]) -> dict[UUID, float]:
    """Seconds until the first open action of each user expires; those who have none are left out."""
    left = sa.extract("epoch", sa.func.min(actions.c.expires_at) - sa.func.now())
    is_open = sa.and_(actions.c.state == State.ISSUED.value, actions.c.expires_at > sa.func.now())
    query = sa.select(actions.c.user_id, left).where(actions.c.user_id.in_(user_ids), is_open)
    return {user_id: float(seconds) for user_id, seconds in connection.execute(query.group_by(actions.c.user_id))}


@dataclass(frozen=True, slots=True)
class Player:
    """What has to be known of a player for whom a game server acts."""

    id: UUID
    role: Role
    status: Status


def get_players(connection: sa.Connection, user_ids: Collection[UUID]) -> dict[UUID, Player]:
    rows: Any = connection.execute(sa.select(users.c.id, users.c.role, users.c.status).where(users.c.id.in_(user_ids)))
    return {row.id: Player(row.id, Role(row.role), Status(row.status)) for row in rows}


def _lock_key(user_id: UUID) -> int:
    return int.from_bytes(user_id.bytes[8:], signed=True)
