"""The board in a real Redis: order, versions, rebuilding while writing."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard.domain.standings import Standing
from scoreboard.live.events import EventLog
from scoreboard.live.standings import RebuildOvertakenError, Standings
from scoreboard.services import rebuild_board as rebuilding
from scoreboard.services.rebuild_board import ensure_board, rebuild_board
from scoreboard.services.verify import verify
from scoreboard.store import board, users
from scoreboard.store.engine import Database
from tests.integration.conftest import add_user

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def standing(score: int, reached_s: float = 0, version: int = 1, user_id: UUID | None = None) -> Standing:
    return Standing(user_id or uuid4(), "Ünal 龍", score, NOW + timedelta(seconds=reached_s), version, True)


def make_whole(standings: Standings) -> None:
    standings.begin_rebuild("test")
    standings.finish_rebuild("test")


def read_ids(standings: Standings, limit: int = 1000) -> list[UUID]:
    found = standings.read(offset=0, limit=limit)
    assert found is not None
    return [entry.user_id for entry in found.board.entries]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.uuids()), max_size=30, unique_by=lambda t: t[2]))
def test_the_order_is_that_of_a_sorted_list(client: redis.Redis, rows: list[tuple[int, int, UUID]]) -> None:
    client.flushall()
    standings = Standings(client)
    make_whole(standings)
    everyone = [standing(score, reached, user_id=user_id) for score, reached, user_id in rows]
    if everyone:
        standings.apply(everyone)
    expected = sorted(everyone, key=lambda each: each.order)
    assert read_ids(standings) == [each.user_id for each in expected]
    for place, each in enumerate(expected, start=1):
        around = standings.read_around(each.user_id, radius=1)
        assert around is not None
        assert around.rank == place
        first = max(1, place - 1)
        near = [(rank, each.user_id) for rank, each in enumerate(expected, start=1)][first - 1 : place + 1]
        assert [(entry.rank, entry.user_id) for entry in around.board.entries] == near


def test_an_older_version_changes_nothing(standings: Standings) -> None:
    make_whole(standings)
    newest = standing(500, version=9)
    standings.apply([newest])
    applied = standings.apply([replace(newest, score=9_999, version=8)])
    assert not applied.moves[0].is_news
    found = standings.read(offset=0, limit=1)
    assert found is not None
    assert found.board.entries[0].score == 500
    again = standings.apply([newest])
    assert (again.moves[0].is_news, again.moves[0].new_rank) == (False, 1)


def test_a_hundred_writers_in_any_order_end_on_the_newest(standings: Standings) -> None:
    make_whole(standings)
    players = [uuid4() for _ in range(5)]
    writes = [standing(version * 10, version, version, player) for player in players for version in range(1, 41)]
    random.shuffle(writes)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda write: standings.apply([write]), writes))
    found = standings.read(offset=0, limit=10)
    assert found is not None
    assert {entry.score for entry in found.board.entries} == {400}
    assert found.board.total_players == 5


def test_versions_grow_with_each_change_and_survive_a_flush(standings: Standings, client: redis.Redis) -> None:
    make_whole(standings)
    one = standing(1)
    first = standings.apply([one]).version
    unchanged = standings.apply([one]).version
    second = standings.apply([replace(one, score=2, version=2)]).version
    client.flushall()
    after_flush = standings.apply([replace(one, score=3, version=3)]).version
    assert first == unchanged < second < after_flush


def test_a_hidden_player_leaves_and_cannot_be_brought_back_by_an_old_write(standings: Standings) -> None:
    make_whole(standings)
    one, other = standing(5), standing(3)
    standings.apply([one, other])
    applied = standings.apply([replace(one, version=2, is_visible=False)])
    assert (applied.moves[0].old_rank, applied.moves[0].new_rank) == (1, None)
    standings.apply([one])
    assert read_ids(standings) == [other.user_id]
    standings.apply([replace(one, version=3)])
    assert read_ids(standings) == [one.user_id, other.user_id]


def test_an_empty_or_half_filled_board_is_never_served(standings: Standings, client: redis.Redis) -> None:
    assert standings.read(offset=0, limit=10) is None
    standings.apply([standing(1)])
    assert standings.read(offset=0, limit=10) is None
    standings.begin_rebuild("mine")
    assert standings.read(offset=0, limit=10) is None
    client.flushall()
    with pytest.raises(RebuildOvertakenError):
        standings.apply([standing(2)], token="mine")
    with pytest.raises(RebuildOvertakenError):
        standings.finish_rebuild("mine")
    assert standings.read(offset=0, limit=10) is None


def test_a_rebuild_while_others_write_ends_whole_and_right(
    database: Database, standings: Standings, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "PUBLISH_BATCH", 5)
    players = [add_user(database) for _ in range(60)]

    def raise_scores(_: object) -> None:
        for player in random.sample(players, 5):
            with database.write() as connection:
                locked = users.lock_user(connection, player.id)
                assert locked is not None
                changed = users.change_user(connection, player.id, is_hidden=not locked.is_hidden)
            standings.apply([changed.standing])

    assert rebuild_board(database, standings, events, raise_scores) == 60
    report = verify(database, standings)
    assert report.is_board_whole
    assert report.findings == []


def test_a_flushed_board_is_noticed_and_filled_again(
    database: Database, standings: Standings, events: EventLog, client: redis.Redis
) -> None:
    for _ in range(3):
        add_user(database)
    assert ensure_board(database, standings, events)
    assert not ensure_board(database, standings, events, compare=True)
    client.flushall()
    assert ensure_board(database, standings, events)
    with database.read() as connection:
        expected = [entry.user_id for entry in board.read_board(connection, offset=0, limit=10).entries]
    assert read_ids(standings) == expected
    # A player who never got there shows in the counts.
    add_user(database)
    assert not ensure_board(database, standings, events)
    assert ensure_board(database, standings, events, compare=True)
    assert len(read_ids(standings)) == 4
