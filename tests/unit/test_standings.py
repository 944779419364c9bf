"""The order of the board, and how its times and ranks are told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.domain.standings import Board, BoardEntry, Standing, from_microseconds, microseconds, percentile
from scoreboard.wire.encoding import to_json
from scoreboard.wire.events import board_row

START = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2255, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone apart
# Few values, so that ties in score and in time are common.
standings = st.builds(
    Standing,
    user_id=st.integers(0, 9).map(lambda number: UUID(int=number << 96)) | st.uuids(),
    username=st.just("name"),
    score=st.integers(0, 3) | st.integers(0, 2**53 - 1),
    reached_at=st.integers(0, 3).map(lambda us: START + timedelta(microseconds=us)) | moments,
    version=st.just(1),
    is_visible=st.just(True),
)


def is_better(one: Standing, other: Standing) -> bool:
    """The contract's words: score descending, then who reached it first, then id."""
    if one.score != other.score:
        return one.score > other.score
    if one.reached_at != other.reached_at:
        return one.reached_at < other.reached_at
    return one.user_id.bytes < other.user_id.bytes


@given(st.lists(standings, max_size=30, unique_by=lambda standing: standing.user_id))
def test_the_order_is_total_and_as_the_contract_says(players: list[Standing]) -> None:
    board = sorted(players, key=lambda standing: standing.order)
    assert all(is_better(one, other) for one, other in pairwise(board))


@given(st.lists(standings, max_size=30, unique_by=lambda standing: standing.user_id), st.randoms())
def test_the_order_does_not_depend_on_the_order_of_arrival(players: list[Standing], shuffler: random.Random) -> None:
    shuffled = list(players)
    shuffler.shuffle(shuffled)
    assert sorted(shuffled, key=lambda each: each.order) == sorted(players, key=lambda each: each.order)


@given(standings, standings)
def test_redis_orders_by_the_same_rule(one: Standing, other: Standing) -> None:
    """Negated score, then eight big-endian bytes of the moment, then the id's bytes."""

    def redis_key(standing: Standing) -> tuple[int, bytes]:
        member = microseconds(standing.reached_at).to_bytes(8, "big") + standing.user_id.bytes
        return (-standing.score, member)

    assert (redis_key(one) < redis_key(other)) == (one.order < other.order)


@given(moments)
def test_microseconds_lose_nothing(moment: datetime) -> None:
    assert from_microseconds(microseconds(moment)) == moment


@given(st.integers(0, 2**53 - 1))
def test_every_number_of_microseconds_is_a_moment(value: int) -> None:
    assert microseconds(from_microseconds(value)) == value


def test_microseconds_count_from_1970_and_fit_a_double() -> None:
    assert microseconds(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert microseconds(datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == 1_767_225_600_000_001
    assert microseconds(datetime(2255, 1, 1, tzinfo=UTC)) < 2**53


def test_microseconds_do_not_depend_on_the_zone() -> None:
    assert microseconds(START.astimezone(timezone(timedelta(hours=-5)))) == microseconds(START)


@pytest.mark.parametrize(
    ("rank", "players", "expected"), [(1, 1, 100.0), (1, 5, 100.0), (3, 5, 50.0), (5, 5, 0.0), (2, 4, 200 / 3)]
)
def test_percentile_is_the_share_of_players_below(rank: int, players: int, expected: float) -> None:
    assert percentile(rank, players) == pytest.approx(expected)


@given(st.integers(2, 10**7).flatmap(lambda players: st.tuples(st.integers(1, players - 1), st.just(players))))
def test_percentile_falls_with_the_rank_within_its_bounds(place: tuple[int, int]) -> None:
    rank, players = place
    assert 0 <= percentile(rank + 1, players) < percentile(rank, players) <= 100


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (START, "2026-01-01T00:00:00Z"),
        (START.replace(microsecond=5), "2026-01-01T00:00:00.000005Z"),
        # As PostgreSQL's driver gives it, in a session whose time zone is UTC.
        (START.replace(tzinfo=timezone(timedelta(0))), "2026-01-01T00:00:00Z"),
    ],
)
def test_times_are_told_in_utc_with_a_z(moment: datetime, expected: str) -> None:
    assert orjson.loads(to_json(moment)) == expected


@given(moments)
def test_a_told_time_reads_back(moment: datetime) -> None:
    told = orjson.loads(to_json(moment))
    assert told.endswith("Z")
    assert datetime.fromisoformat(told) == moment


def test_a_row_is_told_in_the_interface_names() -> None:
    user_id = UUID(int=7)
    assert orjson.loads(to_json(board_row(BoardEntry(3, user_id, "Zoë", 12, START)))) == {
        "rank": 3,
        "userId": str(user_id),
        "username": "Zoë",
        "score": 12,
        "updatedAt": "2026-01-01T00:00:00Z",
    }


def test_a_board_was_updated_when_its_version_says() -> None:
    assert Board((), 0, microseconds(START)).last_updated == START
