"""Fixed windows on Redis: any number of hits, of one request or of many, counted in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scoreboard.live.connection import load_script

# Counting takes some microseconds: after a second without an answer each process had better count for itself.
_TIMEOUT_S = 1.0
# Requests of one process are counted together, one call at a time; the memory fallback's probes come beside that.
_MAX_CONNECTIONS = 4


class Hit(NamedTuple):
    """One call against one counter, whose window lasts ``expiry_s`` from its first hit."""

    key: str
    expiry_s: int
    cost: int


class Counted(NamedTuple):
    """What a counter says with the hit in it, and in how many seconds it begins anew (whole seconds, as TTL says)."""

    total: int
    reset_in_s: int


Count = Callable[[Sequence[Hit]], list[Counted]]


class LimitCounter:
    """Counts on one Redis; the keys and what lies under them are those of the limits library."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = load_script(client, "count_limits")

    def count(self, hits: Sequence[Hit]) -> list[Counted]:
        """Count every hit of a request, all in one atomic step, and answer in their order.

        Raises redis errors when Redis is down; then the hits may have been counted or not.
        """
        return self.count_each([hits])[0]

    def count_each(self, requests: Sequence[Sequence[Hit]]) -> list[list[Counted]]:
        """The same for several requests together: they know nothing of each other, and each gets its part."""
        keys: list[str] = []
        windows: list[int] = []
        for hits in requests:
            for key, expiry_s, cost in hits:
                keys.append(key)
                windows += (expiry_s, cost)
        reply: list[int] = self._script(keys=keys, args=windows)
        counted = map(Counted, reply[::2], reply[1::2])
        return [list(islice(counted, len(hits))) for hits in requests]


def make_pool(url: str) -> redis.ConnectionPool:
    """Connections to count over; whoever finds none free waits, instead of being refused.

    Never a second try: a hit that got no answer may have been counted. Connections that a restart
    has cut are noticed, and replaced, before anything is sent.
    """
    return redis.BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
        timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
