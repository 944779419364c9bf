"""Sessions: each is a family of refresh tokens of which only the newest is valid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.accounts import Role, Status
from scoreboard.store.prepared import Prepared, uuid_array
from scoreboard.store.tables import sessions, users


@dataclass(frozen=True, slots=True)
class Caller:
    """The account behind a live session, as the database has it now."""

    user_id: UUID
    session_id: UUID
    username: str
    role: Role
    status: Status


def insert_session(
    connection: sa.Connection,
    *,
    session_id: UUID,
    user_id: UUID,
    refresh_id: UUID,
    ttl_s: int,
    ip: str | None,
    user_agent: str | None,
) -> None:
    connection.execute(
        sa.insert(sessions).values(
            id=session_id,
            user_id=user_id,
            refresh_id=refresh_id,
            expires_at=sa.func.now() + timedelta(seconds=ttl_s),
            ip=ip,
            user_agent=user_agent,
        )
    )


class FoundSession(NamedTuple):
    """A session and its account, as the database knows them now."""

    session_id: UUID
    user_id: UUID
    username: str
    role: str
    status: str
    is_alive: bool


class FoundCaller(NamedTuple):
    """The account that a session belongs to, and whether the session is still alive."""

    caller: Caller
    is_alive: bool


_GET_CALLERS = Prepared("get_callers", FoundSession)
_ROLES, _STATUSES = {role.value: role for role in Role}, {status.value: status for status in Status}


def get_callers(connection: sa.Connection, session_ids: Collection[UUID]) -> dict[UUID, FoundCaller]:
    """For each session there is: its account, and whether the session is still alive."""
    return {
        session_id: FoundCaller(
            Caller(
                user_id=user_id, session_id=session_id, username=username, role=_ROLES[role], status=_STATUSES[status]
            ),
            is_alive,
        )
        for session_id, user_id, username, role, status, is_alive in _GET_CALLERS.fetch(
            connection, session_ids=uuid_array(session_ids)
        )
    }


def get_caller(connection: sa.Connection, session_id: UUID) -> FoundCaller | None:
    """The session's account and whether the session is still alive."""
    return get_callers(connection, [session_id]).get(session_id)


def rotate(
    connection: sa.Connection, session_id: UUID, *, old_refresh_id: UUID, new_refresh_id: UUID, ttl_s: int
) -> bool:
    """Replace the family's living refresh token; false when the old one is not that one or the session has ended."""
    result = connection.execute(
        sa.update(sessions)
        .where(
            sessions.c.id == session_id,
            sessions.c.refresh_id == old_refresh_id,
            sessions.c.revoked_at.is_(None),
            sessions.c.expires_at > sa.func.now(),
        )
        .values(refresh_id=new_refresh_id, expires_at=sa.func.now() + timedelta(seconds=ttl_s))
    )
    return result.rowcount == 1


def revoke(connection: sa.Connection, session_id: UUID, reason: str) -> UUID | None:
    """End a session; returns its user, or None when it had ended before."""
    return connection.execute(
        sa.update(sessions)
        .where(sessions.c.id == session_id, sessions.c.revoked_at.is_(None))
        .values(revoked_at=sa.func.now(), revoke_reason=reason)
        .returning(sessions.c.user_id)
    ).scalar_one_or_none()


def revoke_all(connection: sa.Connection, user_id: UUID, reason: str) -> int:
    """End every session of a user; returns how many were alive."""
    return connection.execute(
        sa.update(sessions)
        .where(sessions.c.user_id == user_id, sessions.c.revoked_at.is_(None))
        .values(revoked_at=sa.func.now(), revoke_reason=reason)
    ).rowcount


def find_alive(connection: sa.Connection, session_ids: Collection[UUID]) -> set[UUID]:
    """Those of the sessions that live and whose user isn't banned."""
    return set(
        connection.execute(
            sa.select(sessions.c.id)
            .join(users, users.c.id == sessions.c.user_id)
            .where(
                sessions.c.id.in_(session_ids),
                sessions.c.revoked_at.is_(None),
                sessions.c.expires_at > sa.func.now(),
                users.c.status != Status.BANNED.value,
            )
        ).scalars()
    )


def delete_old(connection: sa.Connection, *, older_than_days: int, limit: int) -> int:
    """Drop sessions that ended long ago; bounded so that one call stays short."""
    old = (
        sa.select(sessions.c.id)
        .where(sessions.c.expires_at < sa.func.now() - timedelta(days=older_than_days))
        .limit(limit)
    )
    return connection.execute(sa.delete(sessions).where(sessions.c.id.in_(old))).rowcount
