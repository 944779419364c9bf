"""Group commit: requests that arrive at about the same time share one query to a server.

One query runs at a time. Requests that arrive meanwhile wait for the next one, and the
first of them runs it for all. A lone request does not wait and runs where it was called.
Under load a batch grows with the crowd: after a query that was shared, the next waits
some milliseconds for more requests.

Threads wait at a lock; a process of greenlets names its own, cheaper way (``park_by``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from scoreboard.domain.errors import ServiceUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# Items in one question: an index lookup or a row each, some milliseconds together.
BATCH_MAX = 256
# A question that was shared by more than so many is followed by one that waits for company.
_COMPANY = 2
# Measured with 64 connections on two cores: at 4 ms a flow costs the web processes a tenth less than at 0, and its
# p95 is lower too. A question and the wake-ups around it cost 0.3 ms whatever they carry.
_COMPANY_WAIT_S = 0.004
# Requests that may wait; more than a process can serve in the time they would wait.
_WAITING_MAX = 5_000
# Longer than Postgres is given for any statement, so that its own error arrives first.
_WAIT_S = 14.0
# How often one thread looks for those who have waited too long: a timer for each would cost as much as its wait.
_LOOK_S = 0.5


class Parking(Protocol):
    """Where one caller waits until another wakes it, once; the wake may come first."""

    def wait(self) -> object: ...

    def wake(self) -> object: ...


class _ThreadParking:
    """For threads: a bare lock is the cheapest thing that one can wait for and another can open."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        self._lock.acquire()

    def wake(self) -> None:
        self._lock.release()


_new_parking: Callable[[], Parking] = _ThreadParking


def park_by(new_parking: Callable[[], Parking]) -> None:
    """Let the callers of those coalescers wait so that are made from now on in this process."""
    global _new_parking  # one way for the process, as patching is
    _new_parking = new_parking


class _Waiter(Generic[Item, Answer]):
    """A caller: its item, and once it has to wait, where."""

    __slots__ = ("answer", "error", "is_leader", "is_over", "item", "parking", "since")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.is_leader = False
        self.is_over = False
        self.since = 0.0
        self.parking: Parking | None = None

    def park(self, parking: Parking) -> None:
        """Take a place to wait at, before others can see this caller waiting."""
        self.since = time.monotonic()
        self.parking = parking

    def wait(self) -> None:
        assert self.parking is not None
        self.parking.wait()

    def wake(self) -> None:
        assert self.parking is not None
        self.parking.wake()


class Coalescer(Generic[Item, Answer]):
    """Call it with an item, from any thread or greenlet; ``ask`` gets the items of all who are there.

    ``ask`` returns an answer or an exception for each item, in their order; what it
    raises is raised to each of them.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        *,
        batch_max: int = BATCH_MAX,
        waiting_max: int = _WAITING_MAX,
        wait_s: float = _WAIT_S,
    ) -> None:
        self._ask = ask
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._new_parking = _new_parking
        self._waiting: deque[_Waiter[Item, Answer]] = deque()
        self._is_asking = False
        # How many shared the latest question, and who of them waits for its answer.
        self._shared_by = 0
        self._asked: list[_Waiter[Item, Answer]] = []
        self._watch: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Those who wait for the next question."""
        return len(self._waiting)

    def __call__(self, item: Item) -> Answer:
        """The answer to this item. Raises ServiceUnavailable when too many wait or no answer comes, and its error."""
        waiter: _Waiter[Item, Answer] = _Waiter(item)
        with self._lock:
            if not self._is_asking:
                self._is_asking = waiter.is_leader = True
            elif len(self._waiting) < self._waiting_max:
                waiter.park(self._new_parking())
                self._waiting.append(waiter)
            else:
                raise ServiceUnavailable(1)
        if not waiter.is_leader:
            self._wait(waiter)
        if waiter.is_leader:
            self._lead(waiter)
        if waiter.error is not None:
            raise waiter.error
        return waiter.answer  # type: ignore[return-value]  # set when there is no error

    def _wait(self, waiter: _Waiter[Item, Answer]) -> None:
        if self._watch is None:
            self._start_watch()
        try:
            waiter.wait()
        except BaseException:
            # Interrupted: a waiter that has just been made the leader hands that on.
            with self._lock:
                waiter.is_over = True
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
            if waiter.is_leader:
                self._hand_over()
            raise

    def _start_watch(self) -> None:
        with self._lock:
            if self._watch is None:
                self._watch = threading.Thread(target=self._send_away_late_ones, name="coalesce-watch", daemon=True)
                self._watch.start()

    def _send_away_late_ones(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            with self._lock:
                latest = time.monotonic() - self._wait_s
                # Those behind a question that gets no answer, and those who wait for the next one.
                late = [each for each in (*self._asked, *self._waiting) if each.since < latest and not each.is_over]
                for waiter in late:
                    if waiter in self._waiting:
                        self._waiting.remove(waiter)
                    waiter.is_over, waiter.error = True, ServiceUnavailable(1)
            for waiter in late:
                waiter.wake()

    def _lead(self, mine: _Waiter[Item, Answer]) -> None:
        try:
            # At least those who are about to ask come along; when nobody is, this takes microseconds.
            time.sleep(_COMPANY_WAIT_S if self._shared_by > _COMPANY else 0)
            with self._lock:
                batch = [mine, *(self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_max - 1)))]
                self._shared_by, self._asked = len(batch), batch[1:]
        except BaseException:
            self._hand_over()
            raise
        try:
            self._answer(batch)
        except BaseException as error:
            for waiter in batch:
                waiter.error = error if isinstance(error, Exception) else ServiceUnavailable(1)
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_over()
            with self._lock:
                answered = [waiter for waiter in batch[1:] if not waiter.is_over]
                for waiter in answered:
                    waiter.is_over = True
            for waiter in answered:
                waiter.wake()

    def _answer(self, batch: list[_Waiter[Item, Answer]]) -> None:
        answers = self._ask([waiter.item for waiter in batch])
        for waiter, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                waiter.error = answer
            else:
                waiter.answer = answer

    def _hand_over(self) -> None:
        with self._lock:
            if not self._waiting:
                self._is_asking = False
                return
            following = self._waiting.popleft()
            following.is_leader = True
        following.wake()
