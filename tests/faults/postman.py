"""A broker that can't be trusted: messages wait, come several times and in another order, or get lost."""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

import redis

from scoreboard.live.queue.app import QUEUE
from tests.functional.client import eventually

# Between two looks for messages.
_LOOK_S = 0.01
# The latest copies are seconds late; workers empty the queue within milliseconds, or seconds on busy cores.
_BAG_S = 60.0
# Messages on their way, of which the service sends some twenty a second; more would mean that it rings like mad.
_WAITING_MAX = 10_000


class Postman:
    """Takes the messages from the queue that web and beat write to, and puts them into the one that workers read.

    Two databases of the service's own Valkey. A context manager; ``copies`` of each message come, each up to
    ``late_s`` seconds late, and every so many-th (``lose_each``) doesn't at all.
    """

    def __init__(self, valkey_url: str, *, copies: int = 1, late_s: float = 0.0, lose_each: int = 0) -> None:
        self.copies, self.late_s, self.lose_each = copies, late_s, lose_each
        self.taken = self.delivered = self.lost = 0
        self._from = redis.Redis.from_url(sent_to(valkey_url), socket_timeout=5)
        self._to = redis.Redis.from_url(read_from(valkey_url), socket_timeout=5)
        self._waiting: list[tuple[float, float, bytes]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="postman")
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._from.close()
        self._to.close()
        if error is None and self._error is not None:
            raise self._error

    def end(self) -> None:
        """Take no more; before the server goes."""
        self._is_over.set()
        self._thread.join()

    def empty_the_bag(self) -> None:
        """Be an honest broker from now on; returns when all copies are delivered and the workers have taken them."""
        self.copies, self.late_s, self.lose_each = 1, 0.0, 0
        eventually(lambda: len(self._waiting) + int(self._to.llen(QUEUE)), lambda left: left == 0, _BAG_S)

    def _run(self) -> None:
        try:
            while not self._is_over.wait(_LOOK_S):
                self._collect()
                self._deliver()
        except BaseException as error:  # shown at the end of the context
            self._error = error

    def _collect(self) -> None:
        while isinstance(message := self._from.rpop(QUEUE), bytes):
            self.taken += 1
            if self.lose_each and self.taken % self.lose_each == 0:
                self.lost += 1
                continue
            for copy in copies_of(message, self.copies):
                # The random number puts copies of the same moment in another order than they came in.
                due_at = time.monotonic() + random.uniform(0, self.late_s)
                heapq.heappush(self._waiting, (due_at, random.random(), copy))
            assert len(self._waiting) <= _WAITING_MAX, "more messages on their way than the service should send"

    def _deliver(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._to.lpush(QUEUE, heapq.heappop(self._waiting)[2])
            self.delivered += 1


def copies_of(message: bytes, count: int) -> list[bytes]:
    """The same message, each with a delivery tag of its own, by which the worker acknowledges it."""
    parsed = json.loads(message)
    copies = []
    for _ in range(count):
        parsed["properties"]["delivery_tag"] = str(uuid4())
        copies.append(json.dumps(parsed).encode())
    return copies


def sent_to(valkey_url: str) -> str:
    """The broker of those who send."""
    return urlsplit(valkey_url)._replace(path="/1").geturl()


def read_from(valkey_url: str) -> str:
    """The broker of those who work."""
    return urlsplit(valkey_url)._replace(path="/2").geturl()
