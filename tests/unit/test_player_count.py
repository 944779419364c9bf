"""How often all players are counted while Redis is away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Semaphore

from scoreboard.services.boards.read import PlayerCount


class Table:
    """A clock, and a table whose counting takes a while on it."""

    def __init__(self, players: int, takes_s: float) -> None:
        self.now = 1000.0
        self.players = players
        self.takes_s = takes_s
        self.counts = 0

    def count(self) -> int:
        self.counts += 1
        self.now += self.takes_s
        return self.players


def read_at(table: Table, count: PlayerCount, now: float) -> int:
    table.now = now
    return count.read(table.count)


def test_a_cheap_count_is_always_new() -> None:
    table = Table(players=3, takes_s=0.0)
    count = PlayerCount(lambda: table.now)
    assert count.read(table.count) == 3
    table.players = 4
    assert count.read(table.count) == 4


def test_a_dear_count_takes_a_twentieth_of_the_time() -> None:
    table = Table(players=1_000_000, takes_s=0.1)
    count = PlayerCount(lambda: table.now)
    assert count.read(table.count) == 1_000_000
    table.players += 1
    assert read_at(table, count, 1002.0) == 1_000_000
    assert table.counts == 1
    assert read_at(table, count, 1002.2) == 1_000_001


def test_no_count_is_older_than_twice_ten_seconds() -> None:
    table = Table(players=1, takes_s=5.0)
    count = PlayerCount(lambda: table.now)
    count.read(table.count)
    table.players = 2
    assert read_at(table, count, 1014.9) == 1
    assert read_at(table, count, 1015.1) == 2


def test_what_redis_said_is_good_until_it_is_counted() -> None:
    table = Table(players=1, takes_s=0.1)
    count = PlayerCount(lambda: table.now)
    count.note(7)
    counting, go_on = Event(), Event()

    def slow() -> int:
        counting.set()
        assert go_on.wait(20)
        return table.count()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(count.read, slow)
        assert counting.wait(20)
        # Nobody waits for the one who counts.
        assert count.read(table.count) == 7
        go_on.set()
        assert first.result(20) == 1
    assert table.counts == 1


def test_a_big_board_is_not_counted_when_redis_has_just_gone() -> None:
    table = Table(players=1_000_001, takes_s=0.1)
    count = PlayerCount(lambda: table.now)
    count.note(1_000_000)
    assert read_at(table, count, 1009.9) == 1_000_000
    assert table.counts == 0
    assert read_at(table, count, 1010.1) == 1_000_001


def test_those_who_know_nothing_wait_for_one_count() -> None:
    callers = 8
    table = Table(players=5, takes_s=0.1)
    come = Barrier(callers)
    looked = Semaphore(0)

    def clock() -> float:
        looked.release()
        return table.now

    def count_when_all_are_there() -> int:
        for _ in range(callers):
            assert looked.acquire(timeout=20)
        return table.count()

    def read(_: int) -> int:
        come.wait(20)
        return count.read(count_when_all_are_there)

    count = PlayerCount(clock)
    with ThreadPoolExecutor(callers) as pool:
        assert list(pool.map(read, range(callers))) == [5] * callers
    assert table.counts == 1


def test_a_failed_count_leaves_the_next_one_to_try() -> None:
    table = Table(players=5, takes_s=0.1)
    count = PlayerCount(lambda: table.now)

    def fail() -> int:
        raise ConnectionError

    for _ in range(2):
        try:
            count.read(fail)
        except ConnectionError:
            continue
        raise AssertionError("the failure was swallowed")
    assert count.read(table.count) == 5
