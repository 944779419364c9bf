"""Making many players fast, for load tests and demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from scoreboard.domain.ledger import GENESIS
from scoreboard.services.passwords import Passwords
from scoreboard.store.engine import Database
from scoreboard.store.tables import sessions, users

_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Seeded:
    user_id: UUID
    username: str
    session_id: UUID


def seed_players(
    database: Database,
    passwords: Passwords,
    *,
    count: int,
    prefix: str,
    password: str,
    session_ttl_s: int,
) -> Iterator[list[Seeded]]:
    """Players ``prefix-000001`` … with one shared password hash, each signed in once; yields batches as committed.

    A tag makes the names of each call unique, so that seeding twice adds players.
    """
    password_hash = passwords.hash(password)
    tag = uuid4().hex[:6]
    for start in range(0, count, _BATCH):
        batch = [
            Seeded(uuid7(), f"{prefix}-{tag}-{number:06d}", uuid4())
            for number in range(start + 1, min(start + _BATCH, count) + 1)
        ]
        with database.write() as connection:
            _insert(connection, batch, password_hash, session_ttl_s)
        yield batch


def _insert(connection: sa.Connection, batch: list[Seeded], password_hash: str, session_ttl_s: int) -> None:
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    connection.execute(
        sa.insert(users),
        [
            {
                "id": each.user_id,
                "username": each.username,
                "username_key": each.username,
                "email": f"{each.username}@example.org",
                "email_key": f"{each.username}@example.org",
                "password_hash": password_hash,
                "score_reached_at": now,
                "created_at": now,
                "ledger_hash": GENESIS,
            }
            for each in batch
        ],
    )
    expires_at = now + timedelta(seconds=session_ttl_s)
    connection.execute(
        sa.insert(sessions),
        [
            {"id": each.session_id, "user_id": each.user_id, "refresh_id": uuid4(), "expires_at": expires_at}
            for each in batch
        ],
    )
