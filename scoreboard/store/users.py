"""Players and accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.ledger import GENESIS
from scoreboard.domain.standings import Standing
from scoreboard.store.tables import standing_outbox, users


@dataclass(frozen=True, slots=True)
class User:
    id: UUID
    username: str
    # None for an account without an address.
    email: str | None
    role: Role
    status: Status
    # Before it was banned; means nothing unless it is.
    status_before_ban: Status | None
    is_hidden: bool
    score: int
    score_reached_at: datetime
    standing_version: int
    total_actions: int
    last_action_at: datetime | None
    ledger_seq: int
    ledger_hash: bytes
    created_at: datetime
    updated_at: datetime

    @property
    def is_banned(self) -> bool:
        return self.status is Status.BANNED

    @property
    def is_on_board(self) -> bool:
        return not (self.is_banned or self.is_hidden)

    @property
    def standing(self) -> Standing:
        return Standing(
            user_id=self.id,
            username=self.username,
            score=self.score,
            reached_at=self.score_reached_at,
            version=self.standing_version,
            is_visible=self.is_on_board,
        )


_COLUMNS = [users.c[name] for name in User.__dataclass_fields__]


def _user(row: sa.Row[*tuple[Any, ...]]) -> User:
    values = {name: row._mapping[name] for name in User.__dataclass_fields__}
    values["role"] = Role(values["role"])
    values["status"] = Status(values["status"])
    before = values["status_before_ban"]
    values["status_before_ban"] = Status(before) if before else None
    values["ledger_hash"] = bytes(values["ledger_hash"])
    return User(**values)


def insert_user(
    connection: sa.Connection,
    *,
    user_id: UUID,
    username: str,
    username_key: str,
    email: str | None,
    email_key: str | None,
    password_hash: str,
    role: Role = Role.USER,
    is_hidden: bool = False,
) -> User:
    """Raises IntegrityError naming uq_users_username_key or uq_users_email_key."""
    row = connection.execute(
        sa.insert(users)
        .values(
            id=user_id,
            username=username,
            username_key=username_key,
            email=email,
            email_key=email_key,
            password_hash=password_hash,
            role=role.value,
            is_hidden=is_hidden,
            score_reached_at=sa.func.now(),
            ledger_hash=GENESIS,
        )
        .returning(*_COLUMNS)
    ).one()
    return _user(row)


def get_user(connection: sa.Connection, user_id: UUID) -> User | None:
    row = connection.execute(sa.select(*_COLUMNS).where(users.c.id == user_id)).one_or_none()
    return _user(row) if row else None


class Credentials(NamedTuple):
    """An account and its password hash."""

    user: User
    password_hash: str


def get_credentials(connection: sa.Connection, username_keys: Sequence[str]) -> Credentials | None:
    """The account of the first of these names that has one, and its password hash."""
    rows = connection.execute(
        sa.select(*_COLUMNS, users.c.username_key, users.c.password_hash).where(users.c.username_key.in_(username_keys))
    )
    found = {row.username_key: row for row in rows}
    row = next((found[key] for key in username_keys if key in found), None)
    return Credentials(_user(row), row.password_hash) if row else None


def lock_users(connection: sa.Connection, user_ids: Sequence[UUID]) -> dict[UUID, User]:
    """Lock these rows until the transaction ends, always in id order so that two lockers never deadlock.

    The lock lets foreign keys point here meanwhile: issuing an action does not wait for a settlement.
    """
    rows = connection.execute(
        sa.select(*_COLUMNS).where(users.c.id.in_(user_ids)).order_by(users.c.id).with_for_update(key_share=True)
    )
    return {row.id: _user(row) for row in rows}


def lock_user(connection: sa.Connection, user_id: UUID) -> User | None:
    return lock_users(connection, [user_id]).get(user_id)


def change_user(
    connection: sa.Connection, user_id: UUID, *, previous_score: int | None = None, **values: object
) -> User:
    """Set columns of a locked user, raise the standing version and note the standing for Redis.

    ``previous_score`` is given when the score is among the columns.
    """
    row = connection.execute(
        sa.update(users)
        .where(users.c.id == user_id)
        .values(standing_version=users.c.standing_version + 1, updated_at=sa.func.clock_timestamp(), **values)
        .returning(*_COLUMNS)
    ).one()
    user = _user(row)
    new_score = user.score if previous_score is not None else None
    note_standing(connection, user_id, previous_score=previous_score, new_score=new_score)
    return user


@dataclass(frozen=True, slots=True)
class StandingNote:
    """A standing that has perhaps not reached Redis; the scores are None unless the score was changed."""

    id: int
    user_id: UUID
    previous_score: int | None
    new_score: int | None


def note_standing(
    connection: sa.Connection, user_id: UUID, *, previous_score: int | None = None, new_score: int | None = None
) -> None:
    """Note that the player's standing has to be published; with both scores if the score was changed."""
    connection.execute(
        sa.insert(standing_outbox).values(user_id=user_id, previous_score=previous_score, new_score=new_score)
    )


def take_standings(connection: sa.Connection, user_ids: Sequence[UUID]) -> list[Standing]:
    rows = connection.execute(sa.select(*_COLUMNS).where(users.c.id.in_(user_ids)))
    return [_user(row).standing for row in rows]


def pending_notes(
    connection: sa.Connection, user_id: UUID | None, *, older_than_s: float, limit: int
) -> list[StandingNote]:
    """The oldest notes, of one user or of all, that have been there for some seconds."""
    columns = [standing_outbox.c[name] for name in StandingNote.__dataclass_fields__]
    before = sa.func.now() - timedelta(seconds=older_than_s)
    query = sa.select(*columns).where(standing_outbox.c.created_at <= before)
    query = query.order_by(standing_outbox.c.id).limit(limit)
    if user_id is not None:
        query = query.where(standing_outbox.c.user_id == user_id)
    return [StandingNote(**row._asdict()) for row in connection.execute(query)]


def clear_notes(connection: sa.Connection, note_ids: Sequence[int]) -> None:
    connection.execute(sa.delete(standing_outbox).where(standing_outbox.c.id.in_(note_ids)))


def count_by_status(connection: sa.Connection) -> dict[str, int]:
    """How many accounts there are of each status."""
    query = sa.select(users.c.status, sa.func.count().label("accounts")).group_by(users.c.status)
    return {row.status: row.accounts for row in connection.execute(query)}


def search_users(
    connection: sa.Connection,
    *,
    texts: Sequence[str],
    status: Status | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[User]:
    """Newest first, at most ``limit``; ``before`` is where the last page ended.

    One of ``texts``, if there are any, is part of the name's or the address' key.
    """
    query = sa.select(*_COLUMNS).order_by(users.c.created_at.desc(), users.c.id.desc()).limit(limit)
    for_any = []
    for text in filter(None, texts):
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        for_any += [users.c.username_key.like(pattern), users.c.email_key.like(pattern)]
    if for_any:
        query = query.where(sa.or_(*for_any))
    if status:
        query = query.where(users.c.status == status.value)
    if before:
        query = query.where(sa.tuple_(users.c.created_at, users.c.id) < sa.tuple_(*before))
    return [_user(row) for row in connection.execute(query)]
