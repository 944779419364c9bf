"""The doorbell: tells the workers which actions wait, gathered into few messages.

The message is only a hint: the rows in Postgres say what is to be done, and a sweep
rings again for those left behind. So ringing never fails and never makes a caller wait.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog

log = structlog.get_logger(__name__)

# Measured: the rhythm of the messages matters most; at 30 ms a settlement has company under
# load, and the first ring after a pause goes out at once.
_PERIOD_S = 0.03
# One message's worth: what a worker settles in one transaction.
BATCH_MAX = 200
# Ids waiting for a broker that doesn't answer: some seconds of full load. What doesn't fit is swept later.
_QUEUE_MAX = 10_000


class Doorbell:
    """``ring`` from any thread; a background thread sends. ``send`` takes a list of action ids."""

    def __init__(self, send: Callable[[Sequence[UUID]], None]) -> None:
        self._send = send
        self._waiting: queue.Queue[UUID] = queue.Queue(_QUEUE_MAX)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.lost = 0

    def ring(self, action_id: UUID) -> None:
        try:
            self._waiting.put_nowait(action_id)
        except queue.Full:
            self.lost += 1
            return
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH_MAX:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            started_at = time.monotonic()
            try:
                self._send(batch)
            except Exception as error:  # the broker's client raises many kinds; none may end the thread
                self.lost += len(batch)
                log.warning("doorbell_failed", error=str(error), actions=len(batch))
            pause = _PERIOD_S - (time.monotonic() - started_at)
            if pause > 0 and len(batch) < BATCH_MAX:
                time.sleep(pause)
