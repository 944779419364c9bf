"""Whether the servers that the settings name answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import redis

from config import Settings
from scoreboard.redis_url import read_redis_url

_ANSWER_WAIT_S = 5  # a server that needs longer to say hello is no use at all


def unreachable_servers(settings: Settings) -> list[str]:
    """One line for each given server that doesn't answer: the setting, the address without its password, the reason."""
    checks: list[tuple[str, str | None, Callable[[str], str | None]]] = [
        ("DATABASE_URL", settings.database_url, _ask_postgres),
        ("DATABASE_REPLICA_URL", settings.database_replica_url, _ask_postgres),
        ("REDIS_URL", settings.redis_url, _ask_redis),
        ("CELERY_BROKER_URL", settings.celery_broker_url, _ask_redis),
    ]
    return [
        f"{name}: no server answers at {_without_password(url)}: {reason}"
        for name, url, ask in checks
        if url and (reason := ask(url))
    ]


def _ask_postgres(url: str) -> str | None:
    try:
        psycopg2.connect(url.replace("+psycopg2", "", 1), connect_timeout=_ANSWER_WAIT_S).close()
    except psycopg2.Error as error:
        return _last_line(error)
    return None


def _ask_redis(url: str) -> str | None:
    address = read_redis_url(url)
    options: dict[str, Any] = {
        **address.options,
        "connection_class": address.connection_class,
        "socket_connect_timeout": _ANSWER_WAIT_S,
        "socket_timeout": _ANSWER_WAIT_S,
    }
    pool = redis.ConnectionPool(**options)
    try:
        with redis.Redis(connection_pool=pool) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        return _last_line(error)
    return None


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _without_password(url: str) -> str:
    parts = urlsplit(url.replace("+psycopg2", "", 1))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
