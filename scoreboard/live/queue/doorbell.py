"""The doorbell: tells the workers which actions wait, many in one message.

The message is only a hint: the rows in Postgres are the work, and a sweep
rings again for those left behind. So ringing never fails and never makes a caller wait.

The size of a message follows the backlog. While earlier messages wait for a worker, another
one would only wait behind them: the ids wait here until the queue is empty, and a busy
worker's next message is one large settlement.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from scoreboard.live.queue.app import QUEUE_MAX_MESSAGES

log = structlog.get_logger(__name__)

# Between two messages of one process. A message of any size costs broker, worker and Postgres some 5 ms, so their
# rhythm matters most: a busy process waits for longer. The first ring after a pause goes out at once.
_PERIOD_S, _BUSY_PERIOD_S = 0.05, 0.1
# More ids a second than this make a process a busy one: half of what two of them get through on two cores.
_BUSY_PER_S = 300
# Between two looks whether the queue is empty, while messages wait; a worker that has just emptied it is at work.
_LOOK_S = 0.02
# Ids wait no longer than this behind waiting messages: some of those may be other, longer tasks, and another worker
# may be free before they are done.
_HOLD_MAX_S = 0.25
# The most ids in one message: a worker settles them in one transaction. Past a thousand an action gets no cheaper.
BATCH_MAX = 1_000
# Ids waiting for a broker that doesn't answer: some seconds of full load. What doesn't fit is swept later.
_QUEUE_MAX = 10_000


class Bell(Protocol):
    """Sends the doorbell's messages. Both methods raise the errors of the broker's client."""

    def __call__(self, action_ids: Sequence[UUID]) -> None:
        """Send one message with these ids."""
        ...

    def count_waiting(self) -> int:
        """Messages that no worker has taken yet."""
        ...


class Doorbell:
    """``ring`` from any thread; a background thread sends."""

    def __init__(self, bell: Bell, on_lost: Callable[[int], None] = lambda _: None) -> None:
        """``on_lost`` gets the number of ids that were not sent: the sweep will find them."""
        self._bell = bell
        self._on_lost = on_lost
        self._waiting: queue.Queue[UUID] = queue.Queue(_QUEUE_MAX)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, *action_ids: UUID) -> None:
        for place, action_id in enumerate(action_ids):
            try:
                self._waiting.put_nowait(action_id)
            except queue.Full:
                self._on_lost(len(action_ids) - place)
                break
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        sent_at = -_BUSY_PERIOD_S
        while True:
            batch = [self._waiting.get()]
            started_at = time.monotonic()
            try:
                self._gather(batch)
            except Exception as error:  # the broker's client raises many kinds; none may end the thread
                self._on_lost(len(batch))
                log.warning("doorbell_failed", error=str(error), actions=len(batch))
            now = time.monotonic()
            is_busy = len(batch) > _BUSY_PER_S * (now - sent_at)
            sent_at = now
            pause = (_BUSY_PERIOD_S if is_busy else _PERIOD_S) - (now - started_at)
            if pause > 0 and len(batch) < BATCH_MAX:
                time.sleep(pause)

    def _gather(self, batch: list[UUID]) -> None:
        """Send what there is once nothing waits before it, a whole message at once, and anything after a while."""
        hold_until = time.monotonic() + _HOLD_MAX_S
        while True:
            self._fill(batch)
            messages = self._bell.count_waiting()
            if not messages or len(batch) >= BATCH_MAX or time.monotonic() >= hold_until:
                break
            time.sleep(_LOOK_S)
        if messages >= QUEUE_MAX_MESSAGES:
            self._on_lost(len(batch))
        else:
            self._bell(batch)

    def _fill(self, batch: list[UUID]) -> None:
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._waiting.get_nowait())
            except queue.Empty:
                return
