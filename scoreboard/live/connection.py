"""Clients of Redis with bounded waits, and the scripts they run."""

from __future__ import annotations

from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ClusterDownError, NoPermissionError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from scoreboard.redis_url import read_redis_url

#: Redis refuses: it answers, with an error. A replica after a failover, too few replicas, a disk or a memory that is
#: full, a script that takes long, a cluster or a proxy without a primary, a command that the user may not use.
#: Redis being away is everything else that redis-py raises; it also says so while it is still loading, and when the
#: password is no longer the right one. Either way callers do without, or wait and go on.
REFUSED = (ResponseError,)
#: The errors of redis-py when Redis is down, restarting or frozen, and when it refuses.
UNAVAILABLE = (RedisError, ConnectionError, TimeoutError)
# Refusals that say that another server is the one to ask by now: the name may lead to it already.
_ELSEWHERE = ("READONLY", "MASTERDOWN", "UNBLOCKED", "CLUSTERDOWN")

# A command that takes a second is stuck: everything sent is a lookup or a bounded script.
_TIMEOUT_S = 1.0
# Greenlets or threads of one process that talk to Redis at the same time; more wait their turn.
_MAX_CONNECTIONS = 32
# A connection that was idle for so long is tried before it is used: balancers and proxies forget them.
_HEALTH_CHECK_S = 30
_PROBE, _PROBE_S = "sb:probe", 60


def make_client(
    url: str, *, timeout_s: float = _TIMEOUT_S, max_connections: int = _MAX_CONNECTIONS, is_blocking: bool = False
) -> redis.Redis:
    """A lazily connecting client; call it after fork.

    ``is_blocking``: its commands wait on purpose, so a shorter time-out in the URL does not count.
    One retry, at once: it replaces a pooled connection that a restart has cut.
    A command may therefore run twice, so callers send only absolute, versioned or
    harmlessly repeatable writes.
    """
    return redis.Redis(
        connection_pool=make_pool(
            url, timeout_s=timeout_s, max_connections=max_connections, is_blocking=is_blocking, retries=1
        )
    )


def make_pool(
    url: str, *, timeout_s: float, max_connections: int, retries: int, is_blocking: bool = False
) -> redis.BlockingConnectionPool:
    """Connections to the Redis of this URL, whose own time-outs and bound win over the defaults given here."""
    address = read_redis_url(url)
    bound = min(max_connections, address.max_connections or max_connections)
    return redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]  # redis-py's pool of threads has no types
        max_connections=bound,
        timeout=address.pool_timeout_s or timeout_s,
        retry=Retry(NoBackoff(), retries),
        **connection_options(url, timeout_s=timeout_s, is_blocking=is_blocking),
    )


def connection_options(url: str, *, timeout_s: float, is_blocking: bool = False) -> dict[str, Any]:
    """Keyword arguments of a pool: how each connection is made, but not how many there may be."""
    address = read_redis_url(url)
    given = address.socket_timeout_s or timeout_s
    interval_s = address.health_check_interval_s
    return {
        **address.options,
        "connection_class": _LEAVING[address.connection_class],
        "socket_timeout": max(given, timeout_s) if is_blocking else given,
        "socket_connect_timeout": address.connect_timeout_s or given,
        "health_check_interval": _HEALTH_CHECK_S if interval_s is None else interval_s,
    }


class _Leaving:
    """A connection that is given up when its server says that another one is the primary.

    A pooled connection would stay with the old one for ever; a new one goes where the name leads by then.
    """

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]  # mixed into redis-py's
        except REFUSED as error:
            if is_elsewhere(error):
                self.mark_for_reconnect()  # type: ignore[attr-defined]  # mixed into redis-py's
            raise


class _LeavingConnection(_Leaving, Connection):
    pass


class _LeavingSSLConnection(_Leaving, SSLConnection):
    pass


class _LeavingSocketConnection(_Leaving, UnixDomainSocketConnection):
    pass


_LEAVING: dict[type[Any], type[Any]] = {
    Connection: _LeavingConnection,
    SSLConnection: _LeavingSSLConnection,
    UnixDomainSocketConnection: _LeavingSocketConnection,
}


def is_elsewhere(error: Exception) -> bool:
    """Whether a refusal says that another server is the primary."""
    return isinstance(error, (ReadOnlyError, ClusterDownError)) or str(error).startswith(_ELSEWHERE)


def reason_of(error: Exception) -> str:
    """A refusal in one word, as Redis says it (READONLY, OOM …), or the kind of failure; no hosts, users or keys."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    if isinstance(error, REFUSED) and code.isalpha() and code.isupper() and code != "ERR":
        return str(code)
    return "NOPERM" if isinstance(error, NoPermissionError) else type(error).__name__


def probe_writes(client: redis.Redis) -> None:
    """Write something small, as one that only answers is no use: raises redis errors, REFUSED when it refuses."""
    client.set(_PROBE, b"1", ex=_PROBE_S)


def probe_redis(client: redis.Redis) -> None:
    """Try each kind of command that the service lives on, in one round trip; raises what ``probe_writes`` raises.

    A user may be allowed some and not others: without XADD the board is whole, and no stream hears of it.
    """
    keys = [f"{_PROBE}:{kind}" for kind in ("stream", "hash", "sorted", "count")]
    stream, fields, ordered, count = keys
    with client.pipeline(transaction=False) as pipeline:
        pipeline.set(_PROBE, b"1", ex=_PROBE_S)
        pipeline.xadd(stream, {"e": b"1"}, maxlen=1, approximate=False)
        pipeline.xread({stream: "0"}, count=1)
        pipeline.xrevrange(stream, count=1)
        pipeline.hset(fields, "e", "1")
        pipeline.hincrbyfloat(fields, "n", 1)
        pipeline.hmget(fields, "e", "n")
        pipeline.zadd(ordered, {"e": 1})
        pipeline.zcard(ordered)
        pipeline.zrem(ordered, "e")
        pipeline.incrby(count)
        for key in keys:
            pipeline.expire(key, _PROBE_S)
        # A pipeline's own error hides the server's word for it.
        for reply in pipeline.execute(raise_on_error=False):
            if isinstance(reply, Exception):
                raise reply


def load_script(client: redis.Redis, name: str) -> Script:
    """The named ``scripts/<name>.lua``, sent once and then called by its hash."""
    source = resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
    return client.register_script(source)


def text(value: Any, errors: str = "strict") -> str:
    """A reply as text, in every protocol version."""
    return value.decode(errors=errors) if isinstance(value, bytes) else str(value)


def redis_time(client: redis.Redis) -> float:
    """The time in Unix seconds by the clock of Redis, for what others are going to compare. Raises redis errors."""
    reply: Any = client.time()
    seconds, microseconds = reply
    return float(seconds) + float(microseconds) / 1_000_000
