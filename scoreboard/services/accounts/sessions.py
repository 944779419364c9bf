"""Sessions: open, refresh with reuse detection, end, find the caller."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID, uuid4

import sqlalchemy as sa

from scoreboard.domain.accounts import Status
from scoreboard.domain.errors import AccountBanned, InvalidToken
from scoreboard.live.stream.events import EventLog, session_ended
from scoreboard.services.accounts.callers import CallerLookup
from scoreboard.services.boards.publish import publish_quietly
from scoreboard.store import audit, sessions, users
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller
from scoreboard.store.users import User


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A living session and the id of its newest refresh token."""

    user: User
    session_id: UUID
    refresh_id: UUID


def open_session(connection: sa.Connection, user: User, *, ttl_s: int, origin: Origin) -> OpenSession:
    """Begin a family of refresh tokens in the caller's transaction."""
    sign_in = OpenSession(user, uuid4(), uuid4())
    sessions.insert_session(
        connection,
        session_id=sign_in.session_id,
        user_id=user.id,
        refresh_id=sign_in.refresh_id,
        ttl_s=ttl_s,
        ip=origin.ip,
        user_agent=origin.short_agent,
    )
    return sign_in


def refresh_session(
    database: Database, events: EventLog, *, session_id: UUID, refresh_id: UUID, ttl_s: int, origin: Origin
) -> OpenSession:
    """Replace the refresh token; one that has been replaced before revokes the whole family.

    Raises InvalidToken, AccountBanned.
    """
    new_refresh_id = uuid4()
    with database.write() as connection:
        found = sessions.get_caller(connection, session_id)
        if found is None:
            raise InvalidToken
        caller, is_alive = found
        if caller.status is Status.BANNED:
            raise AccountBanned
        is_rotated = sessions.rotate(
            connection, session_id, old_refresh_id=refresh_id, new_refresh_id=new_refresh_id, ttl_s=ttl_s
        )
        if is_rotated:
            user = users.get_user(connection, caller.user_id)
            assert user is not None
            return OpenSession(user, session_id, new_refresh_id)
        if is_alive:
            sessions.revoke(connection, session_id, "reuse")
            reused = AuditEvent(
                "token.reused",
                actor_id=caller.user_id,
                target_id=caller.user_id,
                result="denied",
                origin=origin,
                risk=0.9,
                details={"sessionId": str(session_id)},
            )
            audit.record(connection, reused)
    publish_quietly(events, [session_ended(session_id)])
    raise InvalidToken


def log_out(database: Database, events: EventLog, *, caller: Caller, origin: Origin) -> None:
    """End this session at once: its tokens die, its streams close."""
    with database.write() as connection:
        sessions.revoke(connection, caller.session_id, "logout")
        logged_out = AuditEvent("user.logged_out", actor_id=caller.user_id, target_id=caller.user_id, origin=origin)
        audit.record(connection, logged_out)
    publish_quietly(events, [session_ended(caller.session_id)])


def find_alive_sessions(database: Database, session_ids: Collection[UUID]) -> set[UUID]:
    """Those of the sessions that live, of accounts that aren't banned."""
    with database.read() as connection:
        return sessions.find_alive(connection, session_ids)


def identify(lookup: CallerLookup, session_id: UUID, user_id: UUID) -> Caller:
    """The living caller behind a verified token. Raises InvalidToken, AccountBanned and what ``lookup`` raises."""
    found = lookup.find(session_id)
    if found is None or found.caller.user_id != user_id:
        raise InvalidToken
    caller, is_alive = found
    if caller.status is Status.BANNED:
        raise AccountBanned
    if not is_alive:
        raise InvalidToken
    lookup.remember(caller)
    return caller
