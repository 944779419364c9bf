"""The real stores under the model of the life cycle: how they are emptied, read as a whole, and made to fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import redis
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.actions import ActionType, FixedPoints
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.accounts.sessions import OpenSession, open_session
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.moderation.decide import Moderation
from scoreboard.store.audit import Origin
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller
from scoreboard.store.settlements import find_unannounced
from scoreboard.store.tables import actions, metadata, score_history, settlements, users
from tests.integration.conftest import add_user, admin_caller
from tests.integration.life_cycle_model import RETIRED

# Longer than any example takes.
SESSION_S = 3_600
# No server listens there: as Redis while it is down.
NOBODY = make_client("redis://127.0.0.1:1/0")
_ACTION = [
    actions.c[name]
    for name in ("id", "user_id", "state", "reason", "issued_at", "accepted_at", "previous_score", "score_increment")
]
_USER = [
    users.c[name]
    for name in ("id", "score", "score_reached_at", "status", "standing_version", "total_actions", "last_action_at")
]
_ENTRY = [
    score_history.c[name] for name in ("user_id", "seq", "action_id", "previous_score", "increment", "new_score", "at")
]


@dataclass(frozen=True)
class Observed:
    """Postgres as it is: actions and users by id, and every ledger entry, player by player."""

    actions: dict[UUID, sa.Row[Any]]
    users: dict[UUID, sa.Row[Any]]
    ledger: list[tuple[Any, ...]]


class DiedError(Exception):
    """A process was killed."""


class DyingDatabase(Database):
    """Its process is killed right before the commit."""

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with self.primary.connect() as connection:
            yield connection
            connection.rollback()
        raise DiedError


class MuteDatabase(Database):
    """It commits, but the reply is lost with the connection."""

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with super().write() as connection:
            yield connection
        raise OperationalError("COMMIT", None, ConnectionResetError())

    @contextmanager
    def autocommit(self) -> Iterator[sa.Connection]:
        with super().autocommit() as connection:
            yield connection
        raise OperationalError("EXECUTE", None, ConnectionResetError())


class NoPasswords(Passwords):
    """Passwords are another test's; a real hash would take longer than a step."""

    def hash(self, password: str) -> str:
        return "none"

    def verify(self, password_hash: str | None, password: str) -> bool:
        return password_hash is not None


@dataclass(frozen=True)
class World:
    """Postgres, Redis, and what the processes around them have."""

    database: Database
    client: redis.Redis
    #: The workers'; the web processes still hand out what has been retired there.
    catalogue: Catalogue
    passwords: Passwords

    @property
    def web_catalogue(self) -> Catalogue:
        retired = ActionType(RETIRED.code, "Retired", FixedPoints(RETIRED.fixed or 0), RETIRED.min_ms, RETIRED.max_ms)
        return Catalogue({**self.catalogue.types, RETIRED.code: retired})

    def live(self, *, is_up: bool = True) -> tuple[Standings, EventLog]:
        client = self.client if is_up else NOBODY
        return Standings(client), EventLog(client)

    def moderation(self, *, is_up: bool) -> Moderation:
        return Moderation(self.database, *self.live(is_up=is_up), admin_caller(), Origin())

    def empty(self) -> None:
        # Rows one by one: of so few that takes a tenth of the time of TRUNCATE.
        with self.database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        self.client.flushall()

    def game_server(self) -> Caller:
        """A trusted server that may act for any player."""
        server = add_user(self.database, "game server", Role.SYSTEM)
        with self.database.write() as connection:
            return caller_of(open_session(connection, server, ttl_s=SESSION_S, origin=Origin()))

    def unannounced_ids(self) -> set[UUID]:
        """Actions of the settlements that a sweep looks at first."""
        with self.database.read() as connection:
            found = find_unannounced(connection, older_than_s=-1, limit=10)
        return {action_id for each in found for action_id in each.action_ids}

    def observe(self) -> Observed:
        """All there is in Postgres of players, actions and the ledger."""
        entries = sa.select(*_ENTRY).order_by(score_history.c.user_id, score_history.c.seq)
        with self.database.read() as connection:
            return Observed(
                {row.id: row for row in connection.execute(sa.select(*_ACTION))},
                {row.id: row for row in connection.execute(sa.select(*_USER).where(~users.c.is_hidden))},
                [tuple(row) for row in connection.execute(entries)],
            )

    def accepted_at(self, action_id: UUID) -> datetime:
        with self.database.read() as connection:
            found: datetime = connection.execute(
                sa.select(actions.c.accepted_at).where(actions.c.id == action_id)
            ).scalar_one()
        return found

    def settlement_ids(self) -> list[UUID]:
        """All settlements in the order in which they were written."""
        with self.database.read() as connection:
            return list(connection.execute(sa.select(settlements.c.id).order_by(settlements.c.settled_at)).scalars())

    def now(self) -> datetime:
        with self.database.read() as connection:
            now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now

    def shift(self, action_ids: Sequence[UUID], by: timedelta) -> None:
        """Actions under way become older: no test can wait for five minutes to pass."""
        columns = (actions.c.issued_at, actions.c.expires_at, actions.c.accepted_at)
        with self.database.write() as connection:
            connection.execute(
                sa.update(actions).where(actions.c.id.in_(action_ids)).values({each: each - by for each in columns})
            )


def caller_of(sign_in: OpenSession) -> Caller:
    """Whom a web process takes a session for, right after signing in."""
    user = sign_in.user
    return Caller(user.id, sign_in.session_id, user.username, user.role, user.status)


def stranger() -> Caller:
    return Caller(uuid4(), uuid4(), "stranger", Role.USER, Status.ACTIVE)
