"""Signing in with name and password."""

from __future__ import annotations

from scoreboard.domain.accounts import login_keys
from scoreboard.domain.errors import AccountBanned, InvalidCredentials
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.accounts.sessions import OpenSession, open_session
from scoreboard.store import audit, users
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database


def log_in(
    database: Database, passwords: Passwords, *, username: str, password: str, refresh_ttl_s: int, origin: Origin
) -> OpenSession:
    """Open a session. Characters that copying adds to a name are ignored.

    Raises InvalidCredentials (never saying which was wrong), AccountBanned.

    An unknown name costs the same time as a wrong password.
    """
    with database.read() as connection:
        found = users.get_credentials(connection, login_keys(username))
    user = found.user if found else None
    if not passwords.verify(found.password_hash if found else None, password) or user is None:
        with database.write() as connection:
            target_id = user.id if user else None
            failed = AuditEvent("user.login_failed", target_id=target_id, result="denied", origin=origin, risk=0.2)
            audit.record(connection, failed)
        raise InvalidCredentials
    if user.is_banned:
        refused = AuditEvent("user.login_refused", actor_id=user.id, target_id=user.id, result="denied", origin=origin)
        with database.write() as connection:
            audit.record(connection, refused)
        raise AccountBanned
    with database.write() as connection:
        sign_in = open_session(connection, user, ttl_s=refresh_ttl_s, origin=origin)
        logged_in = AuditEvent("user.logged_in", actor_id=user.id, target_id=user.id, origin=origin)
        audit.record(connection, logged_in)
    return sign_in
