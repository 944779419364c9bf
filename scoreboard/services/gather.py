"""Group commit: requests that come at about the same time share one question to a server.

Whoever comes first asks for all who are there; those who come meanwhile wait for the
next question, and the first of them asks it. So a lone request waits for nobody and
runs where it was called, and under load the questions grow with the crowd.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from scoreboard.domain.errors import ServiceUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# Items in one question: an index lookup or a row each, some milliseconds together.
BATCH_MAX = 256
# Requests that may wait; more than a process can serve in the time they would wait.
_WAITING_MAX = 5_000
# Longer than Postgres is given for any statement, so that its own error arrives first.
_WAIT_S = 20.0


class _Place(Generic[Item, Answer]):
    """One who asks: the item, and a lock that opens when there is news."""

    __slots__ = ("answer", "error", "is_leader", "item", "news")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.is_leader = False
        # A bare lock is the cheapest thing that one greenlet or thread can wait for and another can open.
        self.news = threading.Lock()
        self.news.acquire()


class Gather(Generic[Item, Answer]):
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
        self._waiting: deque[_Place[Item, Answer]] = deque()
        self._is_asking = False

    @property
    def waiting(self) -> int:
        """Those who wait for the next question."""
        return len(self._waiting)

    def __call__(self, item: Item) -> Answer:
        """The answer to this item. Raises ServiceUnavailable when too many wait or no answer comes, and its error."""
        place: _Place[Item, Answer] = _Place(item)
        with self._lock:
            if not self._is_asking:
                self._is_asking = place.is_leader = True
            elif len(self._waiting) < self._waiting_max:
                self._waiting.append(place)
            else:
                raise ServiceUnavailable(1)
        if not place.is_leader:
            self._wait(place)
        if place.is_leader:
            self._lead(place)
        if place.error is not None:
            raise place.error
        return place.answer  # type: ignore[return-value]  # set when there is no error

    def _wait(self, place: _Place[Item, Answer]) -> None:
        try:
            if place.news.acquire(timeout=self._wait_s):
                return
        except BaseException:
            self._leave(place)
            raise
        self._leave(place)
        raise ServiceUnavailable(1)

    def _leave(self, place: _Place[Item, Answer]) -> None:
        """Give up waiting; one who has just been made the leader hands that on."""
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
        if place.is_leader:
            self._hand_over()

    def _lead(self, mine: _Place[Item, Answer]) -> None:
        try:
            # Those who are about to ask come along; when nobody is, this takes microseconds.
            time.sleep(0)
            with self._lock:
                batch = [mine, *(self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_max - 1)))]
        except BaseException:
            self._hand_over()
            raise
        try:
            self._answer(batch)
        except BaseException as error:
            for place in batch:
                place.error = error if isinstance(error, Exception) else ServiceUnavailable(1)
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_over()
            for place in batch[1:]:
                place.news.release()

    def _answer(self, batch: list[_Place[Item, Answer]]) -> None:
        answers = self._ask([place.item for place in batch])
        for place, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                place.error = answer
            else:
                place.answer = answer

    def _hand_over(self) -> None:
        with self._lock:
            if not self._waiting:
                self._is_asking = False
                return
            following = self._waiting.popleft()
            following.is_leader = True
        following.news.release()
