"""The board from Postgres while Redis is not whole: the same answers, and no crowd of long counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Semaphore
from uuid import uuid4

import pytest
import redis
import sqlalchemy as sa

from scoreboard.domain.errors import NotFound
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.boards.build import rebuild_board
from scoreboard.services.boards.read import BoardReader
from scoreboard.store import users
from scoreboard.store.engine import UNAVAILABLE, Database
from tests.integration.conftest import add_user

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAYERS = 40


class StuckDatabase(Database):
    """Its connections come when the test says so."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.primary)
        self.asked = Semaphore(0)
        self.go_on = Event()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        self.asked.release()
        assert self.go_on.wait(20)
        with super().read() as connection:
            yield connection


def give_points(database: Database) -> None:
    """Players with few different scores and moments, some of them not on the board."""
    chance = random.Random(1)
    for number in range(PLAYERS):
        user = add_user(database)
        reached = NOW + timedelta(seconds=chance.randrange(3))
        with database.write() as connection:
            users.change_user(
                connection,
                user.id,
                previous_score=0,
                score=chance.randrange(4),
                score_reached_at=reached,
                is_hidden=number % 10 == 9,
            )


def test_postgres_answers_like_redis(
    database: Database, standings: Standings, events: EventLog, client: redis.Redis
) -> None:
    give_points(database)
    rebuild_board(database, standings, events)
    fallbacks: list[None] = []
    reader = BoardReader(database, standings, lambda: fallbacks.append(None))
    everyone = reader.read(offset=0, limit=100)
    assert (len(everyone.entries), everyone.total_players) == (36, 36)
    pages = [(offset, limit) for offset in (0, 3, 20, 35, 36, 90) for limit in (1, 7, 100)]
    slices = [reader.read(offset=offset, limit=limit) for offset, limit in pages]
    around = [reader.read_around(entry.user_id, radius=2) for entry in everyone.entries]
    assert fallbacks == []
    client.flushall()
    for (offset, limit), expected in zip(pages, slices, strict=True):
        found = reader.read(offset=offset, limit=limit)
        assert (found.entries, found.total_players) == (expected.entries, 36)
        assert found.version > everyone.version
    for entry, expected in zip(everyone.entries, around, strict=True):
        assert reader.read_around(entry.user_id, radius=2).entries == expected.entries
        assert reader.rank_of(entry.user_id) == (entry.rank, 36)
    assert len(fallbacks) == len(pages) + 2 * len(around)
    with pytest.raises(NotFound):
        reader.read_around(uuid4(), radius=1)
    assert reader.rank_of(uuid4()) == (None, 36)


def test_versions_grow_when_redis_comes_back(
    database: Database, standings: Standings, events: EventLog, client: redis.Redis
) -> None:
    add_user(database)
    rebuild_board(database, standings, events)
    reader = BoardReader(database, standings)
    whole = client.get("sb:{all}:whole")
    assert whole is not None
    client.delete("sb:{all}:whole")
    from_postgres = reader.read_top()
    # As if a restarted Redis had come back with what it held.
    client.set("sb:{all}:whole", whole)
    assert reader.read_top().version > from_postgres.version


def test_only_two_ranks_are_counted_at_a_time(database: Database, standings: Standings) -> None:
    player = add_user(database).id
    stuck = StuckDatabase(database)
    reader = BoardReader(stuck, standings, wait_s=0.1)
    with ThreadPoolExecutor(3) as pool:
        counting = [pool.submit(reader.rank_of, player) for _ in range(2)]
        for _ in counting:
            assert stuck.asked.acquire(timeout=20)
        with pytest.raises(UNAVAILABLE):
            reader.rank_of(player)
        # The top needs no turn.
        top = pool.submit(reader.read_top)
        assert stuck.asked.acquire(timeout=20)
        stuck.go_on.set()
        assert [each.result(20) for each in counting] == [(1, 1), (1, 1)]
        assert len(top.result(20).entries) == 1
    assert reader.rank_of(player) == (1, 1)
