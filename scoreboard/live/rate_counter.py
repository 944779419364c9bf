"""Fixed windows on Redis: any number of hits, of one request or of many, counted in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import redis
from redis.exceptions import NoScriptError

from scoreboard.live.connection import load_script, make_pool

#: The begin of all counters' keys, behind the storage's own prefix.
KEY_PREFIX = "sb:limit"
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
    """A counter's value with the hit in it, and the whole seconds until it begins anew, as TTL has them."""

    total: int
    reset_in_s: int


Count = Callable[[Sequence[Hit]], list[Counted]]


class LimitCounter:
    """Counts on one Redis; keys and values are those of the limits library."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = load_script(client, "count_limits")
        self._refund = load_script(client, "refund_limits")
        self._pool = client.connection_pool

    def count(self, hits: Sequence[Hit]) -> list[Counted]:
        """Count every hit of a request, all in one atomic step, and answer in their order.

        Raises redis errors when Redis is down; then the hits may have been counted or not.
        """
        return self.count_each([hits])[0]

    def count_each(self, requests: Sequence[Sequence[Hit]]) -> list[list[Counted]]:
        """The same for several requests together: they know nothing of each other, and each gets its part."""
        keys: list[str] = []
        windows: list[str] = []
        for hits in requests:
            for key, expiry_s, cost in hits:
                keys.append(key)
                windows.append(f"{expiry_s} {cost}")
        numbers = [*map(int, self._run(keys, " ".join(windows)).split())]
        counted = map(Counted, numbers[::2], numbers[1::2])
        return [list(islice(counted, len(hits))) for hits in requests]

    def refund(self, hits: Sequence[Hit]) -> None:
        """Take hits back that were counted; never below nothing. Raises redis errors when Redis is down."""
        self._refund(keys=[hit.key for hit in hits], args=[hit.cost for hit in hits])

    def _run(self, keys: list[str], windows: str) -> bytes:
        """Call the script on the connection itself: a client's command costs as much CPU time again.

        Nothing is tried a second time, as the pool's own commands aren't: a hit must not count twice.
        """
        connection: Any = self._pool.get_connection()  # its commands are untyped
        try:
            connection.send_command("EVALSHA", self._script.sha, len(keys), *keys, windows)
            reply: bytes = connection.read_response()
        except NoScriptError:
            # Redis has been restarted or flushed; the script, called so, goes along.
            reply = self._script(keys=keys, args=[windows])
        except BaseException:
            # The answer may still come: no other call may read it as its own.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
        return reply


def make_counting_pool(url: str) -> redis.ConnectionPool:
    """Connections to count over; a caller that finds none free waits, instead of being refused.

    Never a second try: a hit that got no answer may have been counted. Connections that a restart
    has cut are noticed, and replaced, before anything is sent.
    """
    return make_pool(url, timeout_s=_TIMEOUT_S, max_connections=_MAX_CONNECTIONS, retries=0)
