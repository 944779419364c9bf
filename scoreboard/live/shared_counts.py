"""Counts of processes that no scrape reaches, as workers and beat: added up in Redis, where any web process reads them.

They need no common disk and no port, so it works on hosts where each process has a machine of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import redis

from scoreboard.live.connection import UNAVAILABLE, make_pool, text

_KEY = "sb:metrics"
# Counts of workers that have been gone for a month are of no use.
_KEEP_S = 30 * 86_400
# More fields than all workers' series, of this release and some before: what is beyond is left out.
_FIELDS_MAX = 5_000
_TIMEOUT_S = 1.0


class SharedCounts:
    """One hash, series → number."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._last: dict[str, float] = {}

    @classmethod
    def sender(cls, url: str) -> SharedCounts:
        """For those that send: nothing is tried a second time, as it would count twice."""
        return cls(redis.Redis(connection_pool=make_pool(url, timeout_s=_TIMEOUT_S, max_connections=1, retries=0)))

    def add(self, increments: Mapping[str, float]) -> None:
        """Add to the numbers. Raises redis errors; then the increments may have been added or not."""
        with self._client.pipeline(transaction=True) as pipeline:
            for key, amount in increments.items():
                pipeline.hincrbyfloat(_KEY, key, amount)
            pipeline.expire(_KEY, _KEEP_S)
            pipeline.execute()

    def read(self) -> dict[str, float]:
        """All numbers; while Redis is down those read last, as a counter that falls looks like a restart."""
        try:
            if self._client.hlen(_KEY) <= _FIELDS_MAX:
                found: Any = self._client.hgetall(_KEY)
                numbers = {text(key, errors="replace"): _number(value) for key, value in found.items()}
                self._last = {key: number for key, number in numbers.items() if number is not None}
        except UNAVAILABLE:
            pass
        return self._last


def _number(value: bytes) -> float | None:
    """None for an entry that no worker wrote: it must not hide the workers' entries."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
