"""Creating an account."""

from __future__ import annotations

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from scoreboard.domain.accounts import Role, check_password, email_key, name_keys, normalise_username, username_key
from scoreboard.domain.errors import EmailTaken, UsernameTaken, ValidationFailed
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.accounts.sessions import OpenSession, open_session
from scoreboard.services.boards.publish import publish_standing
from scoreboard.store import audit, users
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database, violated_constraint
from scoreboard.store.users import User


def register(
    database: Database,
    standings: Standings,
    events: EventLog,
    passwords: Passwords,
    *,
    username: str,
    email: str | None,
    password: str,
    refresh_ttl_s: int,
    origin: Origin,
) -> OpenSession:
    """Create a player, put them on the board with 0 and sign them in.

    Raises ValidationFailed, UsernameTaken, EmailTaken.
    """
    name = _checked_name(username, password)
    password_hash = passwords.hash(password)
    try:
        with database.write() as connection:
            user = _insert(connection, name=name, email=email, password_hash=password_hash, role=Role.USER)
            users.note_standing(connection, user.id)
            sign_in = open_session(connection, user, ttl_s=refresh_ttl_s, origin=origin)
            registered = AuditEvent("user.registered", actor_id=user.id, target_id=user.id, origin=origin)
            audit.record(connection, registered)
    except sa.exc.IntegrityError as error:
        raise _taken(error) from None
    publish_standing(database, standings, events, user.id)
    return sign_in


def create_staff(
    database: Database, passwords: Passwords, *, username: str, email: str | None, password: str, role: Role
) -> User:
    """Create an account that is not on the board: an admin, or a trusted game server.

    Raises ValidationFailed, UsernameTaken, EmailTaken.
    """
    name = _checked_name(username, password)
    password_hash = passwords.hash(password)
    try:
        with database.write() as connection:
            user = _insert(connection, name=name, email=email, password_hash=password_hash, role=role)
            # The board's versions count hidden accounts as well. The sweep publishes this one, as staff may be made
            # where no Redis is known.
            users.note_standing(connection, user.id)
            details = {"role": role.value}
            audit.record(connection, AuditEvent("user.registered", target_id=user.id, details=details))
    except sa.exc.IntegrityError as error:
        raise _taken(error) from None
    return user


def has_role(database: Database, username: str, role: Role) -> bool:
    """Whether there is an account of this name with this role."""
    with database.read() as connection:
        found = users.get_credentials(connection, name_keys(username))
    return found is not None and found.user.role is role


def _checked_name(username: str, password: str) -> str:
    fields = {}
    name = username
    try:
        name = normalise_username(username)
    except ValueError as error:
        fields["username"] = str(error)
    try:
        check_password(password, name)
    except ValueError as error:
        fields["password"] = str(error)
    if fields:
        raise ValidationFailed(fields)
    return name


def _insert(connection: sa.Connection, *, name: str, email: str | None, password_hash: str, role: Role) -> User:
    key = username_key(name)
    # Earlier releases kept invisible characters in the key. No such key is made any more, so a look is enough.
    earlier = [name_key for name_key in name_keys(name) if name_key != key]
    if earlier and users.get_credentials(connection, earlier) is not None:
        raise UsernameTaken
    return users.insert_user(
        connection,
        user_id=uuid7(),
        username=name,
        username_key=key,
        email=email,
        email_key=None if email is None else email_key(email),
        password_hash=password_hash,
        role=role,
        is_hidden=role is not Role.USER,
    )


def _taken(error: sa.exc.IntegrityError) -> Exception:
    constraint = violated_constraint(error)
    if constraint == "uq_users_username_key":
        return UsernameTaken()
    if constraint == "uq_users_email_key":
        return EmailTaken()
    return error
