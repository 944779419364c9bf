"""What waits for one browser: bounded, in order, never more than one board."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.live.stream.outlet import PRIVATE_MAX, Deadline, QueueOutlet

# A waiting thread that has not come back by then is stuck.
STUCK_S = 5.0


class Taker:
    """Another thread that takes once, from before ``put`` until it comes back."""

    def __init__(self, outlet: QueueOutlet) -> None:
        self.taken: bytes | None = None
        self._outlet = outlet
        self._is_running = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()
        assert self._is_running.wait(STUCK_S)

    def _take(self) -> None:
        self._is_running.set()
        # Over the bound of the join: only a wake-up brings it back in time.
        self.taken = self._outlet.take(2 * STUCK_S)

    def result(self) -> bytes | None:
        self._thread.join(STUCK_S)
        assert not self._thread.is_alive(), "the taker was not woken"
        return self.taken


def filled(count: int) -> QueueOutlet:
    outlet = QueueOutlet()
    for _ in range(count):
        outlet.put_private(b"x")
    return outlet


def test_frames_are_taken_once_in_order() -> None:
    outlet = QueueOutlet()
    for name in (b"a", b"b", b"c"):
        outlet.put_private(name)
    assert outlet.take(0) == b"abc"
    assert outlet.take(0) == b""


def test_only_the_newest_board_waits_and_at_the_end() -> None:
    outlet = QueueOutlet()
    outlet.put_board(b"[1]")
    outlet.put_private(b"a")
    outlet.put_board(b"[2]")
    outlet.put_private(b"b")
    outlet.put_board(b"[3]")
    assert outlet.take(0) == b"ab[3]"


def test_a_board_stays_where_it_is_until_a_newer_one_comes() -> None:
    outlet = QueueOutlet()
    outlet.put_board(b"[1]")
    outlet.put_private(b"a")
    assert outlet.take(0) == b"[1]a"
    outlet.put_board(b"[2]")
    assert outlet.take(0) == b"[2]"


@given(st.lists(st.booleans(), max_size=PRIVATE_MAX))
def test_private_order_is_kept_and_one_board_is_left(is_board: list[bool]) -> None:
    outlet = QueueOutlet()
    for number, each in enumerate(is_board):
        (outlet.put_board if each else outlet.put_private)(b"%s%d;" % (b"board" if each else b"own", number))
    taken = outlet.take(0).split(b";")[:-1]
    boards = [number for number, each in enumerate(is_board) if each]
    own = [number for number, each in enumerate(is_board) if not each]
    assert [frame for frame in taken if frame.startswith(b"own")] == [b"own%d" % number for number in own]
    assert [frame for frame in taken if frame.startswith(b"board")] == [b"board%d" % number for number in boards[-1:]]
    # Numbers grow: event ids reach the browser in order.
    numbers = [int(frame.lstrip(b"boardwn")) for frame in taken]
    assert numbers == sorted(numbers)
    assert not outlet.has_overflowed


def test_too_many_private_frames_are_dropped_and_noted() -> None:
    full, overflowed = filled(PRIVATE_MAX), filled(PRIVATE_MAX + 1)
    assert (full.has_overflowed, full.take(0)) == (False, b"x" * PRIVATE_MAX)
    assert filled(PRIVATE_MAX + 1).has_overflowed
    overflowed.put_private(b"z")
    assert (overflowed.has_overflowed, overflowed.take(0)) == (True, b"")
    assert overflowed.has_overflowed, "taking nothing does not bring back what was lost"


def test_what_is_taken_makes_room() -> None:
    outlet = QueueOutlet()
    for _ in range(3):
        for _ in range(PRIVATE_MAX):
            outlet.put_private(b"x")
        assert len(outlet.take(0)) == PRIVATE_MAX
    assert not outlet.has_overflowed


def test_boards_alone_never_overflow() -> None:
    outlet = QueueOutlet()
    for number in range(4 * PRIVATE_MAX):
        outlet.put_board(b"%d" % number)
    assert outlet.take(0) == b"%d" % (4 * PRIVATE_MAX - 1)
    assert not outlet.has_overflowed


def test_starting_over_ends_the_overflow() -> None:
    outlet = filled(PRIVATE_MAX + 1)
    outlet.replace_all(b"reset snapshot ")
    outlet.put_private(b"a")
    assert not outlet.has_overflowed
    assert outlet.take(0) == b"reset snapshot a"


def test_a_snapshot_that_replaces_all_is_no_board_to_be_dropped() -> None:
    outlet = QueueOutlet()
    outlet.put_board(b"old")
    outlet.replace_all(b"reset ")
    outlet.put_board(b"new")
    assert outlet.take(0) == b"reset new"


@pytest.mark.parametrize("method", ["put_private", "put_board", "replace_all"])
def test_a_frame_wakes_a_waiting_taker(method: str) -> None:
    outlet = QueueOutlet()
    taker = Taker(outlet)
    getattr(outlet, method)(b"frame")
    assert taker.result() == b"frame"


def test_closing_wakes_a_waiting_taker() -> None:
    outlet = QueueOutlet()
    taker = Taker(outlet)
    outlet.close()
    assert taker.result() == b""
    assert outlet.is_closed


def test_a_closed_outlet_keeps_nobody_waiting() -> None:
    outlet = QueueOutlet()
    outlet.put_private(b"last")
    outlet.close()
    assert Taker(outlet).result() == b"last"


def test_a_closed_outlet_keeps_nobody_waiting_a_second_time() -> None:
    outlet = QueueOutlet()
    outlet.close()
    assert Taker(outlet).result() == b""
    assert Taker(outlet).result() == b""


def test_nothing_is_lost_or_doubled_between_threads() -> None:
    outlet, writers, each = QueueOutlet(), 4, 50
    together = threading.Barrier(writers)

    def write(name: int) -> None:
        together.wait(STUCK_S)
        for number in range(each):
            outlet.put_private(b"%d/%d;" % (name, number))

    threads = [threading.Thread(target=write, args=(name,), daemon=True) for name in range(writers)]
    for thread in threads:
        thread.start()
    taken = b""
    while any(thread.is_alive() for thread in threads):
        taken += outlet.take(0.01)
    for thread in threads:
        thread.join(STUCK_S)
    taken += outlet.take(0)
    frames = taken.split(b";")[:-1]
    assert len(frames) == len(set(frames)) == writers * each
    for name in range(writers):
        own = [frame for frame in frames if frame.startswith(b"%d/" % name)]
        assert own == [b"%d/%d" % (name, number) for number in range(each)]


def test_a_deadline_counts_down_and_starts_over() -> None:
    deadline = Deadline(100)
    assert 0 < deadline.left_s <= 100
    assert Deadline(0).left_s <= 0
    before = deadline.left_s
    deadline.restart()
    assert deadline.left_s >= before
