"""Redis URLs: all that redis-py understands works for every client, and an invalid one is one clear line."""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from config import Settings, SettingsError
from scoreboard.live.connection import connection_options
from scoreboard.redis_url import read_redis_url

SECRET = "hush/hush"


@pytest.mark.parametrize(
    ("url", "kind", "options"),
    [
        ("redis://host", Connection, {"host": "host"}),
        ("redis://host:7/5", Connection, {"host": "host", "port": 7, "db": 5}),
        ("redis://host?db=5", Connection, {"host": "host", "db": 5}),
        ("redis://[::1]:7", Connection, {"host": "::1", "port": 7}),
        ("redis://u:p%2Fq%40r@host", Connection, {"host": "host", "username": "u", "password": "p/q@r"}),
        ("redis://host?username=u&password=p%2Bq", Connection, {"host": "host", "username": "u", "password": "p+q"}),
        ("redis://host?protocol=3&client_name=me", Connection, {"host": "host", "protocol": 3, "client_name": "me"}),
        ("redis://host?socket_keepalive=yes", Connection, {"host": "host", "socket_keepalive": True}),
        # Each client has its own rule for what may be sent twice.
        ("redis://host?retry_on_timeout=true", Connection, {"host": "host"}),
        ("rediss://host?ssl_cert_reqs=none", SSLConnection, {"host": "host", "ssl_cert_reqs": "none"}),
        ("rediss://host?ssl_cert_reqs=CERT_REQUIRED", SSLConnection, {"host": "host", "ssl_cert_reqs": "required"}),
        ("rediss://host?ssl_check_hostname=no", SSLConnection, {"host": "host", "ssl_check_hostname": False}),
        ("unix:///run/redis.sock?db=2", UnixDomainSocketConnection, {"path": "/run/redis.sock", "db": 2}),
        # As Celery writes it.
        ("redis+socket:///r.sock?virtual_host=2", UnixDomainSocketConnection, {"path": "/r.sock", "db": 2}),
    ],
)
def test_a_url_says_how_to_connect(url: str, kind: type[Any], options: dict[str, object]) -> None:
    address = read_redis_url(url)
    assert (address.connection_class, dict(address.options)) == (kind, options)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host", "redis://"),
        ("redis://[", "of the form"),
        ("redis://host:port", "port"),
        (f"redis://:{SECRET}@host", "%XX"),
        ("redis://:hush#hush@host", "%XX"),
        ("redis://host/#1", "%23"),
        ("redis://host/scores", "number"),
        ("redis://host?db=-1", "below 0"),
        ("redis://host?db=five", "db"),
        ("redis://host?colour=red", "colour"),
        ("redis://host?decode_responses=true", "decode_responses"),
        ("redis://host?ssl_cert_reqs=none", "rediss://"),
        ("redis://host?socket_timeout=soon", "socket_timeout"),
        ("redis://host?socket_timeout=0", "socket_timeout"),
        ("redis://host?socket_connect_timeout=3600", "socket_connect_timeout"),
        ("redis://host?max_connections=0", "max_connections"),
        ("redis://host?protocol=4", "protocol"),
        ("rediss://host?ssl_cert_reqs=perhaps", "perhaps"),
        ("rediss://host?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs"),
        ("unix://", "path"),
    ],
)
@pytest.mark.parametrize("name", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_a_wrong_url_stops_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, told: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(SettingsError) as raised:
        Settings.load()
    message = str(raised.value)
    assert message.startswith(f"{name}: ")
    assert told in message
    assert "\n" not in message
    assert "hush" not in message


def test_an_address_keeps_its_password_to_itself() -> None:
    assert "hush" not in repr(read_redis_url("redis://:hush@host"))


def test_the_timeouts_of_a_url_win_but_never_over_what_waits_on_purpose() -> None:
    url = "redis://host?socket_timeout=3&health_check_interval=10"
    ordinary = connection_options(url, timeout_s=1.0)
    assert (ordinary["socket_timeout"], ordinary["health_check_interval"]) == (3, 10)
    assert connection_options(url, timeout_s=5.0, is_blocking=True)["socket_timeout"] == 5
    assert connection_options("redis://host", timeout_s=1.0)["socket_timeout"] == 1
