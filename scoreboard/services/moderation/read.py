"""Reads accounts and the audit log for moderators. Lists come from a replica if there is one, so they may lag."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

from scoreboard.domain.accounts import Status, name_keys
from scoreboard.domain.errors import NotFound
from scoreboard.store import audit_trail, users
from scoreboard.store.audit_trail import AuditFilter, AuditPosition, ListedEvent
from scoreboard.store.engine import Database
from scoreboard.store.users import User


def search_accounts(
    database: Database,
    *,
    text: str | None,
    status: Status | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[User]:
    """Newest first; ``text`` is part of name or address, ``before`` is the last one seen by creation time and id."""
    texts = name_keys(text) if text else []
    return database.read_stale(
        partial(users.search_users, texts=texts, status=status, before=before, limit=limit),
    )


def read_account(database: Database, user_id: UUID) -> User:
    """The account as it is now. Raises NotFound."""
    with database.read() as connection:
        user = users.get_user(connection, user_id)
    if user is None:
        raise NotFound("There is no such account.")
    return user


def read_audit_log(
    database: Database, wanted: AuditFilter, *, after: AuditPosition | None, limit: int
) -> list[ListedEvent]:
    """Newest first, from behind this position on."""
    return database.read_stale(partial(audit_trail.list_events, wanted=wanted, after=after, limit=limit))
