"""A Redis URL, read once for every client: ours, the limiter's and Celery's.

redis-py's notation is the one that counts: its parser reads the URL, and its own connection classes are made
from the result. Kombu and limits would read the same text in other ways, so they never see it.
"""

from __future__ import annotations

import inspect
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.connection import Connection, SSLConnection, parse_url
from redis.exceptions import RedisError

# What may stand behind the question mark of any URL, beside the ssl_… of rediss://.
_PARAMETERS = frozenset(
    {
        "db",
        "username",
        "password",
        "protocol",
        "client_name",
        "lib_name",
        "lib_version",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_read_size",
        "health_check_interval",
        "max_connections",
        "timeout",
        "retry_on_timeout",
        "retry_on_error",
    }
)
# Understood, and left to each client: only the client knows which commands may be sent twice.
_WITHOUT_EFFECT = ("retry_on_timeout", "retry_on_error")
# Waits have a bound. A server that takes longer for a lookup is of no use.
_WAITS_S = {"socket_timeout": 30.0, "socket_connect_timeout": 30.0, "timeout": 30.0}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is and how to talk to it; never shown whole, as it holds the password."""

    #: host:port or path, and the database: what may be logged.
    location: str
    connection_class: type[Any]
    #: Keyword arguments of ``connection_class``, none of them a timeout or a bound.
    options: Mapping[str, Any] = field(repr=False)
    #: The URL's own timeouts in seconds; a client that waits on purpose raises them to what it needs.
    socket_timeout_s: float | None = None
    connect_timeout_s: float | None = None
    pool_timeout_s: float | None = None
    health_check_interval_s: int | None = None
    #: The most connections of one pool.
    max_connections: int | None = None

    @property
    def host_and_port(self) -> str:
        """For others to show; of a socket the name."""
        path = self.options.get("path")
        return Path(path).name if path else self.location.rpartition("/")[0]


@cache
def read_redis_url(url: str) -> RedisAddress:
    """The address that the URL names. Raises ValueError with one line that doesn't quote the URL."""
    text, given = _normalised(url)
    _check_names(text, given)
    try:
        options: dict[str, Any] = parse_url(text)  # type: ignore[no-untyped-call]  # redis-py's has no types
    except ValueError as error:
        raise ValueError(_without_url(error)) from None
    for name in _WITHOUT_EFFECT:
        options.pop(name, None)
    connection_class = options.pop("connection_class", Connection)
    _check_values(options)
    address = RedisAddress(
        location=_location(options),
        connection_class=connection_class,
        socket_timeout_s=options.pop("socket_timeout", None),
        connect_timeout_s=options.pop("socket_connect_timeout", None),
        pool_timeout_s=options.pop("timeout", None),
        health_check_interval_s=options.pop("health_check_interval", None),
        max_connections=options.pop("max_connections", None),
        options=options,
    )
    _try_out(address)
    return address


def _normalised(url: str) -> tuple[str, dict[str, str]]:
    """The URL as redis-py writes it, and its parameters: Celery's spellings are taken as well."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not an address of the form redis://user:password@host:port/database") from None
    if parts.scheme not in {"redis", "rediss", "unix", "redis+socket"}:
        raise ValueError("must start with redis://, rediss:// or unix://")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has an invalid port; write the special characters of a password as %XX") from None
    if parts.fragment:
        raise ValueError("has a # in it; write it as %23")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "redis+socket":
        parts = parts._replace(scheme="unix")
        if "virtual_host" in given:
            given.setdefault("db", given.pop("virtual_host"))
    if "ssl_cert_reqs" in given:
        given["ssl_cert_reqs"] = given["ssl_cert_reqs"].lower().removeprefix("cert_")
    # Put together by hand: urllib leaves out the slashes of a scheme that it doesn't know.
    query = f"?{urlencode(given)}" if given else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}", given


def _check_names(url: str, given: Mapping[str, str]) -> None:
    parts = urlsplit(url)
    known = _PARAMETERS | (_ssl_parameters() if parts.scheme == "rediss" else frozenset())
    for name in given:
        if name not in known:
            tls = " (only rediss:// knows it)" if name in _ssl_parameters() else ""
            raise ValueError(f"has a parameter that is not known: {name[:60]!r}{tls}")
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*/?", parts.path):
        raise ValueError("names a database that is not a number")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("names no path of a socket")


@cache
def _ssl_parameters() -> frozenset[str]:
    return frozenset(name for name in inspect.signature(SSLConnection).parameters if name.startswith("ssl_"))


def _check_values(options: Mapping[str, Any]) -> None:
    for name, most in _WAITS_S.items():
        if name in options and not 0 < options[name] <= most:
            raise ValueError(f"has a {name} that is not between 0 and {most:.0f} seconds")
    for name in ("max_connections", "health_check_interval", "socket_read_size"):
        if name in options and options[name] < (0 if name == "health_check_interval" else 1):
            raise ValueError(f"has a {name} that is too small")
    if options.get("db", 0) < 0:
        raise ValueError("names a database below 0")
    if options.get("protocol", 2) not in (2, 3):
        raise ValueError("has a protocol that is not 2 or 3")
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ValueError(f"has an {name} that names no file")


def _try_out(address: RedisAddress) -> None:
    """Make a connection object, which connects to nothing: wrong values show here, not with the first player."""
    try:
        address.connection_class(**address.options)
    except (RedisError, ValueError, TypeError, ssl.SSLError) as error:
        raise ValueError(_without_url(error)) from None


def _without_url(error: Exception) -> str:
    text = str(error).replace(" in connection URL.", "")
    return text[:1].lower() + text[1:200]


def _location(options: Mapping[str, Any]) -> str:
    host = options.get("host", "localhost")
    where = options.get("path") or f"{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}"
    return f"{where}/{options.get('db', 0)}"
