"""Stores on real servers, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import redis
import sqlalchemy as sa
from uuid_utils.compat import uuid7

from config import Settings
from scoreboard.domain.accounts import Role, Status
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.local import LocalServers
from scoreboard.services.actions.catalogue import Catalogue, load_catalogue
from scoreboard.services.upkeep.housekeeping import make_partitions
from scoreboard.store import users
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.migrate import upgrade
from scoreboard.store.sessions import Caller
from scoreboard.store.tables import actions, metadata
from scoreboard.store.users import User
from tests.service import fresh_database


@pytest.fixture(scope="session")
def database_url(local_servers: LocalServers) -> str:
    """A migrated database of its own."""
    return migrated_database(local_servers)


def migrated_database(servers: LocalServers) -> str:
    """The URL of a new, migrated database."""
    url = fresh_database(servers.database_url).replace("postgresql://", "postgresql+psycopg2://")
    upgrade(url)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The migrated database, emptied."""
    database = Database(make_engine(database_url, 16, name="test"))
    with database.write() as connection:
        tables = ", ".join(table.name for table in metadata.sorted_tables)
        connection.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    make_partitions(database, datetime.now(UTC))
    yield database
    database.dispose()


@pytest.fixture
def client(local_servers: LocalServers) -> Iterator[redis.Redis]:
    """An emptied Valkey."""
    client = make_client(local_servers.redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def standings(client: redis.Redis) -> Standings:
    return Standings(client)


@pytest.fixture
def events(client: redis.Redis) -> EventLog:
    return EventLog(client)


@pytest.fixture
def catalogue() -> Catalogue:
    return load_catalogue(Settings.load().catalogue_path)


def add_user(database: Database, name: str | None = None, role: Role = Role.USER) -> User:
    """A player without points, made directly in the store."""
    name = name or f"player {uuid4().hex[:12]}"
    with database.write() as connection:
        return users.insert_user(
            connection,
            user_id=uuid7(),
            username=name,
            username_key=name.casefold(),
            email=f"{uuid4().hex}@example.org",
            email_key=f"{uuid4().hex}@example.org",
            password_hash="none",
            role=role,
            is_hidden=role is not Role.USER,
        )


@dataclass(frozen=True)
class Accepted:
    """How an accepted action is made directly in the store; times are offsets from now in seconds."""

    action_type: str = "SOLVE_PROBLEM"
    issued_s: float = -10.0
    accepted_s: float = 0.0
    # When a game server says that it was completed; None for a completion that came by itself.
    completed_s: float | None = None
    claimed_ms: int = 9_000
    points: int | None = None
    # The game server that acted for the player.
    issued_by: UUID | None = None
    ip: str | None = "192.0.2.7"
    user_agent: str | None = "a browser"


def add_accepted(database: Database, user_id: UUID, how: Accepted = Accepted()) -> UUID:
    """An action that waits to be settled."""
    action_id = uuid7()
    completed_s = how.completed_s
    with database.write() as connection:
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        connection.execute(
            sa.insert(actions).values(
                id=action_id,
                user_id=user_id,
                issued_by=how.issued_by,
                ip=how.ip,
                user_agent=how.user_agent,
                action_type=how.action_type,
                metadata={"difficulty": "easy"} if how.action_type in {"COMPLETE_LEVEL", "TAP_NUMBERS"} else {},
                token_hash=uuid4().bytes,
                state="accepted",
                issued_at=now + timedelta(seconds=how.issued_s),
                expires_at=now + timedelta(seconds=how.issued_s + 300),
                accepted_at=now + timedelta(seconds=how.accepted_s),
                completed_at=None if completed_s is None else now + timedelta(seconds=completed_s),
                completion_time_ms=how.claimed_ms,
                reported_points=how.points,
                body_digest=b"digest",
            )
        )
    return action_id


def admin_caller() -> Caller:
    return Caller(uuid4(), uuid4(), "the admin", Role.ADMIN, Status.ACTIVE)
