"""Redis that gives no answer is asked by one caller at a time; the others don't wait for it."""

from __future__ import annotations

from typing import Any, cast

import pytest
import redis
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from scoreboard.domain.standings import Board
from scoreboard.live.standings import Slice, Standings
from scoreboard.services.boards.read import BoardReader
from scoreboard.store.engine import Database

BOARD = Board((), 0, 7)


class Silent:
    """A board in Redis that answers or doesn't."""

    def __init__(self) -> None:
        self.asked = self.touched = 0
        self.answers = False

    def read(self, **_: int) -> Slice:
        self.asked += 1
        if not self.answers:
            raise redis.TimeoutError("Timeout reading from socket")
        return Slice(BOARD, None)

    def probe(self) -> None:
        pass

    def touch(self) -> None:
        self.touched += 1


class Postgres:
    """Asked for in vain: what counts is who comes here."""

    def read_stale(self, _question: object) -> Any:
        raise PoolTimeoutError("nobody home")


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def reader(silent: Silent, now: list[float]) -> BoardReader:
    return BoardReader(cast(Database, Postgres()), cast(Standings, silent), clock=lambda: now[0])


def read_in_vain(reader: BoardReader, times: int) -> None:
    for _ in range(times):
        with pytest.raises(PoolTimeoutError):
            reader.read_top()


def test_one_caller_a_second_asks(reader: BoardReader, silent: Silent, now: list[float]) -> None:
    read_in_vain(reader, 20)
    assert silent.asked == 1
    for second in range(1, 4):
        now[0] += 1.0
        read_in_vain(reader, 20)
        assert silent.asked == 1 + second


def test_an_answer_ends_it(reader: BoardReader, silent: Silent, now: list[float]) -> None:
    read_in_vain(reader, 2)
    silent.answers = True
    read_in_vain(reader, 2)
    now[0] += 1.0
    assert [reader.read_top() for _ in range(3)] == [BOARD] * 3
    # Its version has to be above those that Postgres' answers carried, and is read once more for that.
    assert (silent.touched, silent.asked) == (1, 5)
