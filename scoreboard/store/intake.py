"""Taking actions in: issuing tokens and accepting completions, many requests in one statement.

A row counts only if its caller is unchanged: the session lives, and account, role and
status are the same. Each statement is one transaction and one round
trip: it is committed when the call returns. Locks are taken in one order everywhere, so that two processes never
deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa

from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.actions import State, next_action_id
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
    # To be issued with it, if it is accepted; its id is ``next_id``.
    following: Issue | None = None

    @property
    def next_id(self) -> UUID:
        """The id of the action that this completion may bring."""
        return next_action_id(self.action_id, self.completion_time_ms)


class AcceptedRow(NamedTuple):
    """A completion that was accepted; the times of the action issued with it, None without one."""

    id: UUID
    digest: str
    issued_at: datetime | None
    expires_at: datetime | None

    @property
    def issued(self) -> Issued | None:
        return Issued(self.issued_at, self.expires_at) if self.issued_at and self.expires_at else None


_LOCK = Prepared("lock_open_actions", tuple)
_ISSUE = Prepared("issue_actions", tuple)
_ACCEPT = Prepared("accept_actions", AcceptedRow)
_NEXT_COLUMNS = (
    "next_ids",
    "next_issued_by",
    "next_action_types",
    "next_metadata",
    "next_token_hashes",
    "next_ttls_s",
)


def issue(connection: sa.Connection, wanted: Sequence[Issue], *, max_open: int) -> dict[UUID, Issued]:
    """Store issued actions, in order as far as their players have fewer than ``max_open`` open ones; returns those.

    One whose id is taken is not stored. ``connection`` commits by itself.
    """
    rows = _ISSUE.fetch_after(
        _LOCK,
        _lock_keys(wanted),
        connection,
        **_callers(wanted),
        ids=uuid_array([issue.action_id for issue in wanted]),
        user_ids=uuid_array([issue.user_id for issue in wanted]),
        issued_by=array([issue.issued_by for issue in wanted]),
        action_types=text_array([issue.action_type for issue in wanted]),
        metadata=text_array([orjson.dumps(issue.metadata).decode() for issue in wanted]),
        token_hashes=array([issue.token_hash.hex() for issue in wanted]),
        ttls_s=array([issue.ttl_s for issue in wanted]),
        max_open=max_open,
    )
    return {action_id: Issued(issued_at, expires_at) for action_id, issued_at, expires_at in rows}


def accept(
    connection: sa.Connection, completions: Sequence[Acceptance], *, max_open: int
) -> dict[tuple[UUID, bytes], Issued | None]:
    """Accept those that are issued, unexpired and match; by action and digest of the body, what was issued with each.

    The row's own state is the guard, and the database's clock decides on expiry. Of
    several completions of one action one is accepted. What an accepted one asks for next is issued
    as ``issue`` would do it, at the moment of its acceptance. ``connection`` commits by itself.
    """
    following = [completion.following for completion in completions]
    arguments = {
        **_callers(completions),
        "ids": uuid_array([completion.action_id for completion in completions]),
        "user_ids": uuid_array([completion.user_id for completion in completions]),
        "token_hashes": array([completion.token_hash.hex() for completion in completions]),
        "completion_times_ms": array([completion.completion_time_ms for completion in completions]),
        "points": array([completion.reported_points for completion in completions]),
        "data": text_array([completion.data for completion in completions]),
        "digests": array([completion.body_digest.hex() for completion in completions]),
        "ips": array([completion.ip for completion in completions]),
        "user_agents": text_array([completion.user_agent for completion in completions]),
        **_following(following),
        "max_open": max_open,
    }
    issues = [issue for issue in following if issue is not None]
    rows = (
        _ACCEPT.fetch_after(_LOCK, _lock_keys(issues), connection, **arguments)
        if issues
        else _ACCEPT.fetch(connection, **arguments)
    )
    return {(row.id, bytes.fromhex(row.digest)): row.issued for row in rows}


def _following(issues: Sequence[Issue | None]) -> dict[str, str]:
    """The columns of what is asked for next, NULL for completions that ask for nothing."""
    if not any(issues):
        # Arrays that are shorter than the others end in NULLs.
        return dict.fromkeys(_NEXT_COLUMNS, "{}")
    columns = (
        array([issue.action_id if issue else None for issue in issues]),
        array([issue.issued_by if issue else None for issue in issues]),
        text_array([issue.action_type if issue else None for issue in issues]),
        text_array([orjson.dumps(issue.metadata).decode() if issue else None for issue in issues]),
        array([issue.token_hash.hex() if issue else None for issue in issues]),
        array([issue.ttl_s if issue else None for issue in issues]),
    )
    return dict(zip(_NEXT_COLUMNS, columns, strict=True))


def _callers(rows: Sequence[Issue | Acceptance]) -> dict[str, str]:
    callers = [row.caller for row in rows]
    return {
        "session_ids": uuid_array([caller.session_id for caller in callers]),
        "caller_ids": uuid_array([caller.user_id for caller in callers]),
        "roles": array([caller.role.value for caller in callers]),
        "statuses": array([caller.status.value for caller in callers]),
    }


def next_expiries_s(connection: sa.Connection, user_ids: Collection[UUID]) -> dict[UUID, float]:
    """Seconds until the first open action of each user expires; those who have none are left out."""
    left = sa.extract("epoch", sa.func.min(actions.c.expires_at) - sa.func.now())
    is_open = sa.and_(actions.c.state == State.ISSUED.value, actions.c.expires_at > sa.func.now())
    query = sa.select(actions.c.user_id, left).where(actions.c.user_id.in_(user_ids), is_open)
    return {user_id: float(seconds) for user_id, seconds in connection.execute(query.group_by(actions.c.user_id))}


@dataclass(frozen=True, slots=True)
class ServedPlayer:
    """A player for whom a game server acts."""

    id: UUID
    role: Role
    status: Status


def get_players(connection: sa.Connection, user_ids: Collection[UUID]) -> dict[UUID, ServedPlayer]:
    rows: Any = connection.execute(sa.select(users.c.id, users.c.role, users.c.status).where(users.c.id.in_(user_ids)))
    return {row.id: ServedPlayer(row.id, Role(row.role), Status(row.status)) for row in rows}


def _lock_keys(issues: Sequence[Issue]) -> dict[str, str]:
    return {"keys": array(sorted({_lock_key(issue.user_id) for issue in issues}))}


def _lock_key(user_id: UUID) -> int:
    return int.from_bytes(user_id.bytes[8:], signed=True)
