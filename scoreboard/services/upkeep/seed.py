"""Making many players fast, for load tests and demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import sqlalchemy as sa
import uuid_utils

from scoreboard.services.accounts.passwords import Passwords
from scoreboard.store.engine import Database
from scoreboard.store.seeding import copy_players, copy_sessions
from scoreboard.store.transactions import read_clock

# One transaction of a fifth of a second, 5 MB of text.
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Seeded:
    """A player and a session of theirs, as the text of their ids."""

    user_id: str
    username: str
    session_id: str


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

    A tag makes the names of each call unique, so that seeding twice adds players. The prefix is case-folded. The
    players are not on the board in Redis yet.
    """
    password_hash = passwords.hash(password)
    tag = uuid4().hex[:6]
    for start in range(0, count, _BATCH):
        # Ids in the order of time go in at the end of their index; a million at random places would double the time.
        batch = [
            Seeded(str(uuid_utils.uuid7()), f"{prefix}-{tag}-{number:06d}", str(uuid_utils.uuid7()))
            for number in range(start + 1, min(start + _BATCH, count) + 1)
        ]
        with database.write() as connection:
            _write(connection, batch, password_hash, session_ttl_s)
        yield batch


def _write(connection: sa.Connection, batch: list[Seeded], password_hash: str, session_ttl_s: int) -> None:
    now = read_clock(connection)
    names = ((player.user_id, player.username) for player in batch)
    copy_players(connection, names, password_hash=password_hash, at=now)
    signed_in = ((player.session_id, player.user_id, str(uuid_utils.uuid4())) for player in batch)
    copy_sessions(connection, signed_in, expires_at=now + timedelta(seconds=session_ttl_s))
