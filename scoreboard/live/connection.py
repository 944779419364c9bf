"""Clients of Redis with bounded waits, and the scripts they run."""

from __future__ import annotations

from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import RedisError
from redis.retry import Retry

#: What redis-py raises when Redis is down, restarting, frozen or still loading.
UNAVAILABLE = (RedisError, ConnectionError, TimeoutError)

# A command that takes a second is stuck: everything sent is a lookup or a bounded script.
_TIMEOUT_S = 1.0
# Greenlets or threads of one process that talk to Redis at the same time; more wait their turn.
_MAX_CONNECTIONS = 32


def make_client(url: str, *, timeout_s: float = _TIMEOUT_S, max_connections: int = _MAX_CONNECTIONS) -> redis.Redis:
    """A lazily connecting client; call it after fork.

    One retry, at once: it replaces a pooled connection that a restart has cut.
    A command may therefore run twice, so callers send only absolute, versioned or
    harmlessly repeatable writes.
    """
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),
    )
    return redis.Redis(connection_pool=pool)


def load_script(client: redis.Redis, name: str) -> Script:
    """The named ``scripts/<name>.lua``, sent once and then called by its hash."""
    source = resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
    return client.register_script(source)


def text(value: Any) -> str:
    """A reply as text, whatever the protocol version made of it."""
    return value.decode() if isinstance(value, bytes) else str(value)


def redis_time(client: redis.Redis) -> float:
    """The time in Unix seconds by the clock of Redis, for what others are going to compare. Raises redis errors."""
    reply: Any = client.time()
    seconds, microseconds = reply
    return float(seconds) + float(microseconds) / 1_000_000
