"""The board in a real Redis: order, versions, rebuilding while writing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard.domain.accounts import Role
from scoreboard.domain.standings import RawStanding, Standing, microseconds
from scoreboard.live.standings import FILL_BATCH, RebuildOvertakenError, Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.accounts.register import create_staff
from scoreboard.services.boards.build import RebuildRunningError, ensure_board, rebuild_board
from scoreboard.services.boards.publish import publish_notes
from scoreboard.services.upkeep.verify import verify
from scoreboard.store import board, users
from scoreboard.store.engine import Database
from tests.integration.conftest import add_user

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def standing(score: int, reached_s: float = 0, version: int = 1, user_id: UUID | None = None) -> Standing:
    return Standing(user_id or uuid4(), "Ünal 龍", score, NOW + timedelta(seconds=reached_s), version, True)


Side = tuple[int, int, bool]


def _of_side(user_id: UUID, side: Side) -> Standing:
    version, score, is_visible = side
    return replace(standing(score, version, version, user_id), is_visible=is_visible)


def raw(standing: Standing) -> RawStanding:
    """As a rebuild reads it from Postgres."""
    reached = microseconds(standing.reached_at)
    return standing.user_id.bytes, standing.version, standing.score, reached, standing.is_visible, standing.username


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


# A player's standing as live changes brought it, and as the rebuild finds it: version, score, visible; None is none.
SIDE = st.none() | st.tuples(st.integers(1, 3), st.integers(0, 3), st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(SIDE, SIDE), max_size=20))
def test_filling_keeps_what_is_newer(client: redis.Redis, sides: list[tuple[Side | None, Side | None]]) -> None:
    client.flushall()
    standings = Standings(client)
    standings.begin_rebuild("mine")
    found = []
    for live, filled in sides:
        user_id = uuid4()
        found.append(tuple(side and _of_side(user_id, side) for side in (live, filled)))
    live_ones = [live for live, _ in found if live]
    filled_ones = [filled for _, filled in found if filled]
    if live_ones:
        standings.apply(live_ones)
    standings.fill([raw(each) for each in filled_ones], "mine")
    standings.finish_rebuild("mine")
    # Of the same version is the same standing; here it tells who came first.
    newest = [max(filter(None, pair), key=lambda each: each.version, default=None) for pair in found]
    shown = sorted((each for each in newest if each and each.is_visible), key=lambda each: each.order)
    board_now = standings.read(offset=0, limit=100)
    assert board_now is not None
    assert [(e.user_id, e.score, e.updated_at, e.username) for e in board_now.board.entries] == [
        (each.user_id, each.score, each.reached_at, each.username) for each in shown
    ]
    assert board_now.board.total_players == len(shown)
    # The versions are there too: also of those who are not on the board.
    if filled_ones:
        assert not any(move.is_news for move in standings.apply(filled_ones).moves)


def test_filling_takes_any_number(standings: Standings) -> None:
    everyone = [standing(number) for number in range(2 * FILL_BATCH + 1)]
    standings.begin_rebuild("mine")
    standings.fill([raw(each) for each in everyone], "mine")
    standings.fill([], "mine")
    standings.finish_rebuild("mine")
    assert read_ids(standings, limit=len(everyone)) == [each.user_id for each in reversed(everyone)]


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
        standings.fill([raw(standing(2))], "mine")
    with pytest.raises(RebuildOvertakenError):
        standings.finish_rebuild("mine")
    assert standings.read(offset=0, limit=10) is None


def test_a_rebuild_while_others_write_ends_whole_and_right(
    database: Database, standings: Standings, events: EventLog
) -> None:
    players = [add_user(database) for _ in range(60)]

    def raise_scores(_: object) -> None:
        for player in random.sample(players, 5):
            with database.write() as connection:
                locked = users.lock_user(connection, player.id)
                assert locked is not None
                changed = users.change_user(connection, player.id, is_hidden=not locked.is_hidden)
            standings.apply([changed.standing])

    assert rebuild_board(database, standings, events, raise_scores, batch=5) == 60
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


def test_an_admins_account_makes_no_process_fill_the_board_again(
    database: Database, standings: Standings, events: EventLog
) -> None:
    player = add_user(database)
    assert ensure_board(database, standings, events)
    create_staff(
        database, Passwords(), username="a new admin", email=None, password="a long enough pass phrase", role=Role.ADMIN
    )
    assert not ensure_board(database, standings, events, compare=True)
    assert publish_notes(database, standings, events) == 1
    assert not ensure_board(database, standings, events, compare=True)
    assert read_ids(standings) == [player.id]


def test_a_rebuild_reads_what_the_store_says(database: Database) -> None:
    changes: list[dict[str, Any]] = [
        {"score": 2**53 - 1, "score_reached_at": NOW + timedelta(microseconds=1)},
        {"score": 5, "status": "banned"},
        {"score": 5, "score_reached_at": datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
        {"is_hidden": True},
        {},
    ]
    for number, change in enumerate(changes):
        user = add_user(database, f"Ünal 龍 \\ {number}")
        with database.write() as connection:
            users.change_user(connection, user.id, **change)
    with database.read() as connection:
        expected = [each for batch in board.stream_standings(connection, batch=2) for each in batch]
        batches = list(board.stream_raw_standings(connection, batch=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    found = [(bytes(user_id), *others) for batch in batches for user_id, *others in batch]
    assert found == [raw(each) for each in sorted(expected, key=lambda each: each.order, reverse=True)]


def test_redis_emptied_during_a_rebuild_is_no_whole_board(
    database: Database, standings: Standings, events: EventLog, client: redis.Redis
) -> None:
    for _ in range(6):
        add_user(database)
    with pytest.raises(RebuildOvertakenError):
        rebuild_board(database, standings, events, lambda _: client.flushall(), batch=2)
    assert standings.read(offset=0, limit=1) is None
    # Its lock is free again.
    assert rebuild_board(database, standings, events) == 6
    assert len(read_ids(standings)) == 6


class FailingStandings(Standings):
    """Redis goes away at the last, smaller batch."""

    def fill(self, rows: Sequence[RawStanding], token: str) -> None:
        if len(rows) < 2:
            raise redis.ConnectionError("gone")
        super().fill(rows, token)


def test_a_batch_that_failed_is_no_whole_board(database: Database, events: EventLog, client: redis.Redis) -> None:
    for _ in range(5):
        add_user(database)
    standings = FailingStandings(client)
    with pytest.raises(redis.ConnectionError):
        rebuild_board(database, standings, events, batch=2)
    assert not standings.is_whole()


def test_a_rebuild_waits_for_another_if_asked_to(database: Database, standings: Standings, events: EventLog) -> None:
    add_user(database)
    began, go_on = Event(), Event()

    def pause(_: int) -> None:
        began.set()
        assert go_on.wait(20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(rebuild_board, database, standings, events, pause)
        assert began.wait(20)
        with pytest.raises(RebuildRunningError):
            rebuild_board(database, standings, events)
        second = pool.submit(rebuild_board, database, standings, events, wait_s=20)
        add_user(database)
        go_on.set()
        assert (first.result(20), second.result(20)) == (1, 2)
    assert len(read_ids(standings)) == 2
