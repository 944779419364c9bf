"""The doorbell's messages: at once when none waits, many ids in one when some do, never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from scoreboard.live.queue.app import QUEUE_MAX_MESSAGES
from scoreboard.live.queue.doorbell import BATCH_MAX, Doorbell

IDS = [UUID(int=number) for number in range(1, 3_001)]
# Far more than any wait of the doorbell; a test that needs it has failed.
PATIENCE_S = 10.0


class Queue:
    """A broker's queue: as long as it is told, and a place to wait for what comes."""

    def __init__(self, waiting: int = 0) -> None:
        self.waiting = waiting
        self.messages: list[list[UUID]] = []
        self.looks = 0
        self.is_broken = False
        self._news = threading.Condition()

    def __call__(self, action_ids: Sequence[UUID]) -> None:
        with self._news:
            self.messages.append(list(action_ids))
            self._news.notify_all()

    def count_waiting(self) -> int:
        with self._news:
            self.looks += 1
            self._news.notify_all()
            if self.is_broken:
                raise ConnectionError("no broker")
            return self.waiting

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(is_so, PATIENCE_S)

    @property
    def told(self) -> list[UUID]:
        return [each for message in self.messages for each in message]


def ring(doorbell: Doorbell, ids: Sequence[UUID]) -> None:
    for each in ids:
        doorbell.ring(each)


def test_the_first_ring_goes_out_at_once() -> None:
    def seconds() -> float:
        bell = Queue()
        started_at = time.monotonic()
        Doorbell(bell).ring(IDS[0])
        bell.wait_for(lambda: bool(bell.messages))
        assert bell.messages == [IDS[:1]]
        return time.monotonic() - started_at

    # A busy machine may be slow any time, but one that waits is so each time.
    assert any(seconds() < 0.05 for _ in range(50)), "less than the period it keeps under load"


def test_what_comes_while_messages_wait_becomes_one_message() -> None:
    bell = Queue(waiting=1)
    doorbell = Doorbell(bell)
    ring(doorbell, IDS[:10])
    bell.wait_for(lambda: bell.looks >= 1)
    ring(doorbell, IDS[10:20])
    assert bell.messages == []
    bell.waiting = 0
    bell.wait_for(lambda: len(bell.told) >= 20)
    assert bell.messages == [IDS[:20]]


def test_nothing_is_held_for_ever_behind_messages_that_nobody_takes() -> None:
    bell = Queue(waiting=1)
    lost: list[int] = []
    doorbell = Doorbell(bell, lost.append)
    doorbell.ring(IDS[0])
    bell.wait_for(lambda: bool(bell.messages))
    assert bell.looks > 3
    assert lost == []


def test_a_full_message_goes_whatever_waits() -> None:
    bell = Queue(waiting=QUEUE_MAX_MESSAGES - 1)
    doorbell = Doorbell(bell)
    ring(doorbell, IDS[: 2 * BATCH_MAX])
    bell.wait_for(lambda: len(bell.told) >= 2 * BATCH_MAX)
    assert max(map(len, bell.messages)) == BATCH_MAX
    assert bell.told == IDS[: 2 * BATCH_MAX]


def test_with_a_full_queue_nothing_more_is_sent() -> None:
    bell = Queue(waiting=QUEUE_MAX_MESSAGES)
    lost: list[int] = []
    doorbell = Doorbell(bell, lost.append)
    ring(doorbell, IDS[: BATCH_MAX + 1])
    # A whole message has been given up when the doorbell looks for the next one.
    bell.wait_for(lambda: sum(lost) == BATCH_MAX)
    bell.waiting = 0
    bell.wait_for(lambda: bool(bell.messages))
    assert bell.messages == [IDS[BATCH_MAX : BATCH_MAX + 1]]


def test_a_broken_broker_costs_its_message_and_no_more() -> None:
    bell = Queue()
    bell.is_broken = True
    lost: list[int] = []
    doorbell = Doorbell(bell, lost.append)
    doorbell.ring(IDS[0])
    bell.wait_for(lambda: bell.looks == 1)
    bell.is_broken = False
    doorbell.ring(IDS[1])
    bell.wait_for(lambda: bool(bell.messages))
    assert bell.messages == [IDS[1:2]]
    assert lost == [1]
