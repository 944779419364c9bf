"""Players are locked in the order of their ids, under every plan: so two settlers never deadlock."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Barrier
from uuid import UUID

import pytest
import sqlalchemy as sa

from scoreboard.store import settlements
from scoreboard.store.engine import Database
from scoreboard.store.tables import users
from tests.integration.conftest import add_user

PLAYERS = 6
# Long enough for a machine with other work to do; a deadlock would last for ever.
WAIT_S = 20.0
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
# Without an index players are found in the order in which they were written, here from the last to the first.
NO_INDEX = "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off"
# Rings show at once. 200 transactions of four settlers make some dozens, if there can be any.
QUICK_TO_SEE_RINGS = "SET LOCAL deadlock_timeout = '20ms'"
SETTLERS, ROUNDS = 4, 50


@pytest.fixture
def players(database: Database) -> list[UUID]:
    """Ids in their order; the rows lie the other way round."""
    ids = sorted(add_user(database).id for _ in range(PLAYERS))
    with database.write() as connection:
        for user_id in reversed(ids):
            # A new version of the row goes behind all others.
            connection.execute(sa.update(users).where(users.c.id == user_id).values(updated_at=sa.func.now()))
    with database.primary.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM FULL users")
    with database.read() as connection:
        assert connection.execute(sa.select(users.c.id).order_by(sa.text("ctid"))).scalars().all() == ids[::-1]
    return ids


@contextmanager
def locking(database: Database, user_id: UUID) -> Iterator[None]:
    with database.write() as connection:
        connection.execute(sa.select(users.c.id).where(users.c.id == user_id).with_for_update())
        yield


def lock_all(database: Database, user_ids: Sequence[UUID], plan: str) -> list[UUID]:
    with database.write() as connection:
        connection.exec_driver_sql(plan)
        locked = settlements.lock_players(connection, user_ids, since=LONG_AGO, wait_s=WAIT_S)
    return [player.id for player in locked]


def wait_until_somebody_waits(database: Database) -> None:
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + WAIT_S
    with database.read() as connection:
        while not connection.execute(waiting).scalar_one():
            assert time.monotonic() < deadline, "nobody waits for the locked player"
            connection.rollback()
            time.sleep(0.01)


def free_ones(database: Database) -> list[UUID]:
    with database.read() as connection:
        found = connection.execute(sa.select(users.c.id).with_for_update(key_share=True, skip_locked=True))
        return sorted(found.scalars())


@pytest.mark.parametrize("plan", ["SELECT", NO_INDEX], ids=["the planner's choice", "no index"])
@pytest.mark.parametrize("place", [1, PLAYERS - 2])
def test_who_waits_for_a_player_holds_those_before_and_none_behind(
    database: Database, players: list[UUID], plan: str, place: int
) -> None:
    asked = random.Random(place).sample(players, len(players))
    with ThreadPoolExecutor(1) as pool:
        with locking(database, players[place]):
            settling = pool.submit(lock_all, database, asked, plan)
            wait_until_somebody_waits(database)
            assert free_ones(database) == players[place + 1 :]
        assert settling.result(WAIT_S) == players


def test_settlers_of_the_same_players_never_wait_in_a_ring(database: Database, players: list[UUID]) -> None:
    """Postgres ends a ring by failing one of those in it, which would be raised here."""
    together = Barrier(SETTLERS)

    def settle_once(asked: list[UUID]) -> None:
        with database.write() as connection:
            connection.exec_driver_sql(QUICK_TO_SEE_RINGS)
            together.wait(WAIT_S)
            locked = settlements.lock_players(connection, asked, since=LONG_AGO, wait_s=WAIT_S)
            assert [player.id for player in locked] == sorted(asked)

    def settle(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(ROUNDS):
                settle_once(chance.sample(players, chance.randint(2, PLAYERS)))
        except BaseException:
            # The others needn't wait for this one.
            together.abort()
            raise

    with ThreadPoolExecutor(SETTLERS) as pool:
        ended = [pool.submit(settle, seed).exception for seed in range(SETTLERS)]
        assert [each() for each in ended] == [None] * SETTLERS
    with database.read() as connection:
        counted = sa.text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert connection.execute(counted).scalar_one() == 0
