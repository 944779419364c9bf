"""The headers of every answer, by all that answer: pages, JSON, errors, files, streams, the server itself."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from gunicorn.http import errors

from app import create_app
from config import Settings
from scoreboard.logs import configure_logging
from scoreboard.web.server.admission import Admission
from scoreboard.web.server.bad_requests import refuse
from scoreboard.web.server.security_headers import steady_headers
from tests.security.pages_fortress import FRIEND, POISON, SCORE_LIMIT, Fortress, account, record
from tests.service import Service

Fetch = Callable[[Fortress], httpx.Response]
# Nothing by default; then what our own pages need, all of it from this very origin.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    # As docs/embedding.md says, other sites take the module; no page of ours is shown inside of theirs.
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
STEADY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
YEAR_S = 31_536_000
JSON_TYPE = {"Content-Type": "application/json"}


def get(path: str, **headers: str) -> Fetch:
    return lambda fortress: fortress.call("GET", path, headers=headers)


def send(method: str, path: str, **options: Any) -> Fetch:
    return lambda fortress: fortress.call(method, path, **options)


def not_modified(fortress: Fortress) -> httpx.Response:
    tag = fortress.call("GET", "/static/page.css").headers["ETag"]
    return fortress.call("GET", "/static/page.css", headers={"If-None-Match": tag})


def own_score_too_often(fortress: Fortress) -> httpx.Response:
    token = fortress.sign_in()[0].json()["data"]["accessToken"]
    # Twice as often as allowed, in case that a new minute begins.
    for _ in range(2 * SCORE_LIMIT + 1):
        answer = fortress.call("GET", "/v1/users/me/score", headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 200:
            break
    return answer


def as_player_at(path: str) -> Fetch:
    def fetch(fortress: Fortress) -> httpx.Response:
        token = fortress.sign_in()[0].json()["data"]["accessToken"]
        return fortress.call("GET", path, headers={"Authorization": f"Bearer {token}"})

    return fetch


def stream(fortress: Fortress) -> httpx.Response:
    """The head of a stream; nobody reads on."""
    with httpx.stream("GET", f"{fortress.url}/v1/leaderboard/stream", timeout=30) as answer:
        return answer


def parsed(answer: bytes) -> httpx.Response:
    """An answer as it came over the wire."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)  # type: ignore[arg-type]


def raw(request: bytes) -> Fetch:
    """What the server says to bytes that no HTTP library would send."""

    def fetch(fortress: Fortress) -> httpx.Response:
        target = urlsplit(fortress.url)
        with socket.create_connection((target.hostname, target.port), timeout=30) as connection:
            connection.sendall(request)
            answer = b""
            while more := connection.recv(65_536):
                answer += more
        return parsed(answer)

    return fetch


# Name: how to get it, its status, and what caches are told.
PRIVATE = "no-store"
ANSWERS: dict[str, tuple[Fetch, int, str]] = {
    "page": (get("/"), 200, "no-cache"),
    "docs": (get("/api/docs"), 200, "no-cache"),
    "description": (get("/openapi.json"), 200, "public, max-age=60"),
    "script": (get("/static/scoreboard.js"), 200, "public, max-age=300"),
    "style": (get("/static/page.css"), 200, "public, max-age=300"),
    "picture": (get("/static/favicon.svg"), 200, "public, max-age=300"),
    "file that has not changed": (not_modified, 304, "public, max-age=300"),
    "part of a file": (get("/static/page.css", Range="bytes=0-9"), 206, "public, max-age=300"),
    "part that is none": (get("/static/page.css", Range="bytes=999999-"), 416, PRIVATE),
    "missing file": (get("/static/none.js"), 404, PRIVATE),
    "folder": (get("/static/"), 404, PRIVATE),
    "file outside": (get("/static/../../config.py"), 404, PRIVATE),
    "file outside, encoded": (get("/static/..%2f..%2f..%2fconfig.py"), 404, PRIVATE),
    "redirect": (get("/favicon.ico"), 308, PRIVATE),
    "board": (get("/v1/leaderboard"), 200, "public, max-age=1"),
    "catalogue": (get("/v1/actions/types"), 200, "public, max-age=60"),
    "new account": (lambda fortress: fortress.sign_in()[0], 201, PRIVATE),
    "own score": (as_player_at("/v1/users/me/score"), 200, PRIVATE),
    "own rows": (as_player_at("/v1/leaderboard/around/me"), 200, "private, max-age=1"),
    "own history": (as_player_at("/v1/users/me/history"), 200, PRIVATE),
    "stream": (stream, 200, "no-cache, no-transform"),
    "head of the stream": (send("HEAD", "/v1/leaderboard/stream"), 200, "no-cache, no-transform"),
    "health": (get("/health"), 200, PRIVATE),
    "all parts": (lambda fortress: fortress.call("GET", "/health/detailed", headers=fortress.operator), 200, PRIVATE),
    "metrics": (lambda fortress: fortress.call("GET", "/metrics", headers=fortress.operator), 200, PRIVATE),
    "metrics for anybody": (get("/metrics"), 401, PRIVATE),
    "options": (send("OPTIONS", "/v1/leaderboard"), 200, PRIVATE),
    "wrong field": (send("POST", "/v1/auth/login", json={"a": 1}), 400, PRIVATE),
    "bad token": (get("/v1/leaderboard", Authorization="Bearer none"), 401, PRIVATE),
    "no token": (get("/v1/users/me/score"), 401, PRIVATE),
    "not an admin": (as_player_at("/v1/admin/stats"), 403, PRIVATE),
    "nothing there": (get("/nothing"), 404, PRIVATE),
    "nobody there": (get("/v1/users/00000000-0000-0000-0000-000000000000/score"), 404, PRIVATE),
    "wrong method": (send("DELETE", "/v1/leaderboard"), 405, PRIVATE),
    "trace": (send("TRACE", "/"), 405, PRIVATE),
    "too large": (send("POST", "/v1/auth/login", content=b"x" * 70_000, headers=JSON_TYPE), 413, PRIVATE),
    "no json": (send("POST", "/v1/auth/login", content=b"{}"), 415, PRIVATE),
    "too often": (own_score_too_often, 429, PRIVATE),
    "failure": (
        lambda fortress: fortress.call("POST", "/v1/auth/register", json=account(username=f"{POISON} {id(fortress)}")),
        500,
        PRIVATE,
    ),
    "no http": (raw(b"BAD\x1b<script>\r\n\r\n"), 400, PRIVATE),
    "bad header": (raw(b"GET / HTTP/1.1\r\nHost: a\r\nX<script>: \x1b\r\n\r\n"), 400, PRIVATE),
    "long address": (raw(b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"), 414, PRIVATE),
    "many headers": (
        raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(80)) + b"\r\n"),
        431,
        PRIVATE,
    ),
}


def assert_safe(answer: httpx.Response, *, is_production: bool = True) -> None:
    """The answer carries each header that keeps browsers safe, once and with the right value."""
    (policy,) = answer.headers.get_list("content-security-policy")
    assert dict(directive.split(" ", 1) for directive in policy.split("; ")) == POLICY
    for name, value in STEADY.items():
        assert answer.headers.get_list(name) == [value], name
    said = answer.headers.get_list("strict-transport-security")
    assert said == ([f"max-age={YEAR_S}; includeSubDomains"] if is_production else [])
    assert len(answer.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_carries_every_header(fortress: Fortress, name: str) -> None:
    fetch, status, caching = ANSWERS[name]
    answer = fetch(fortress)
    assert answer.status_code == status, answer.headers
    assert_safe(answer)
    assert answer.headers.get_list("cache-control") == [caching]
    kind, _, charset = answer.headers.get("content-type", "").partition("; ")
    assert not kind.startswith("text/") or charset.endswith("charset=utf-8")
    # No version of anything behind it.
    assert answer.headers.get("server", "gunicorn") == "gunicorn"
    if status >= 400:
        assert kind == "application/json"
        error = answer.json()["error"]
        assert not {"<script>", "gunicorn", "Traceback"} & set(error["message"].split())


def test_development_is_without_tls_and_otherwise_the_same(service: Service) -> None:
    for path in ("/", "/v1/leaderboard", "/nothing", "/static/page.js"):
        assert_safe(httpx.get(service.url + path, timeout=30), is_production=False)


def alone() -> Settings:
    """A production whose servers are away: nothing listens on port 1."""
    return Settings.load(
        environment="production",
        jwt_secret="s" * 32,
        action_token_keys="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        database_url="postgresql://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1/0",
    )


@pytest.fixture
def own_logging() -> Iterator[None]:
    """An application made here sets up the log of this very process; afterwards it is pytest's again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_answer_without_its_servers_is_as_safe(own_logging: None) -> None:
    """503s, which no test could get from a service that others use as well."""
    answer = create_app(alone()).test_client().get("/health")
    assert answer.status_code == 503
    assert_safe(httpx.Response(503, headers=list(answer.headers)))
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_full_process_refuses_as_safely() -> None:
    full = Admission(0, headers=steady_headers(alone())).gate(lambda _environ, _start: [])
    said: list[Any] = []
    full({"PATH_INFO": "/v1/leaderboard"}, lambda *answer: said.extend(answer))  # type: ignore[arg-type]
    status, headers = said
    assert status.startswith("503")
    assert_safe(httpx.Response(503, headers=headers))
    assert dict(headers)["Cache-Control"] == "no-store"


@pytest.mark.parametrize("error", [RuntimeError("SELECT secret"), errors.ConfigurationProblem("secret")])
def test_a_failure_outside_of_the_application_is_answered_as_safely(
    own_logging: None, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    configure_logging("DEBUG")
    request = SimpleNamespace(
        path="/v1/leaderboard/stream", query="ticket=one", uri="/v1/leaderboard/stream?ticket=one"
    )
    answer = parsed(refuse(alone(), request, ("192.0.2.1", 4_711), error))
    assert answer.status_code == 500
    assert_safe(answer)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Connection"] == "close"
    assert answer.json()["error"] == {
        "code": "INTERNAL_ERROR",
        "message": "Something went wrong on our side.",
        "details": {},
    }
    (line,) = capsys.readouterr().out.splitlines()
    assert record(line)["event"] == "connection_failed"
    assert "ticket" not in line


def test_a_friend_is_told_the_same(fortress: Fortress) -> None:
    """The headers for other sites come on top, they replace none."""
    for path in ("/v1/leaderboard", "/static/scoreboard.js", "/v1/users/me/score"):
        assert_safe(fortress.call("GET", path, headers={"Origin": FRIEND}))
