"""Sends what this process counts to Redis every few seconds; any web process shows it at /metrics."""

from __future__ import annotations

import contextlib
import threading
import time

import structlog

from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.shared_counts import SharedCounts
from scoreboard.metric_values import BOOK, Series

log = structlog.get_logger(__name__)

# Prometheus asks every ten seconds or less often.
_PERIOD_S = 2.0


class Sender:
    """Remembers the counts sent; those that Redis did not take go along with the next ones."""

    def __init__(self, counts: SharedCounts) -> None:
        self._counts = counts
        self._sent: dict[Series, float] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._run, name="metrics-sender", daemon=True).start()

    def send(self) -> None:
        """Send the counts since the last time. Raises redis errors."""
        with self._lock:
            now = {series: number for series, number in BOOK.own().items() if series.kind != "gauge"}
            increments = {
                series.key: number - self._sent.get(series, 0.0)
                for series, number in now.items()
                if number != self._sent.get(series, 0.0)
            }
            if increments:
                self._counts.add(increments)
                self._sent = now

    def _run(self) -> None:
        is_away = False
        while True:
            time.sleep(_PERIOD_S)
            try:
                self.send()
                is_away = False
            except UNAVAILABLE as error:
                if not is_away:
                    log.warning("metrics_not_sent", error=str(error))
                is_away = True


_senders: list[Sender] = []


def share_metrics(redis_url: str | None) -> None:
    """Count from zero in this process, and send it from now on; to be called after fork."""
    BOOK.begin()
    # A broker alone is enough to wait for messages, but not to settle them.
    if redis_url:
        sender = Sender(SharedCounts.sender(redis_url))
        _senders[:] = [sender]
        sender.start()


def send_metrics() -> None:
    """Send the last counts, at the end of a process; lost when Redis is down."""
    for sender in _senders:
        with contextlib.suppress(*UNAVAILABLE):
            sender.send()
