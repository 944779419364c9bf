"""Other sites: named ones may read answers with tokens, none may with cookies, and no look-alike gets in."""

from __future__ import annotations

import re

import httpx
import pytest

from config import Settings, SettingsError
from tests.functional.contract import contract_of
from tests.security.pages_fortress import FRIEND, PORT_FRIEND, TLS, Fortress
from tests.service import Service

STRANGERS = [
    "https://stranger.example",
    "null",
    # Before, behind, around the name of a friend.
    "https://game.example.stranger.example",
    "https://game.example.",
    "https://game.examples",
    "https://not-game.example",
    "https://notgame.example",
    "https://a.game.example",
    "https://gamexexample",
    "https://game_example",
    "https://game.example@stranger.example",
    "https://stranger.example/https://game.example",
    "https://stranger.example#https://game.example",
    "https://game.example\\.stranger.example",
    # Another scheme, another port.
    "http://game.example",
    "ftp://game.example",
    "https://game.example:8443",
    "https://game.example:443",
    "https://play.example",
    "https://play.example:84430",
    "https://play.example:844",
    # No origin at all.
    "*",
    "https://",
    "https://*",
    "https://.*",
    "game.example",
    "file://",
    "chrome-extension://game.example",
    f"{FRIEND}, https://stranger.example",
    f"{FRIEND} https://stranger.example",
    f"https://stranger.example, {FRIEND}",
    "http://[",
    "é",
]
# What docs/api.md tells callers to read and to send.
READABLE = {"date", "etag", "preference-applied", "retry-after", "x-request-id"} | {
    f"x-ratelimit-{each}" for each in ("limit", "remaining", "reset")
}
SENDABLE = {
    "authorization",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "last-event-id",
    "prefer",
    "x-csrf-token",
    "x-request-id",
}
NOBODY = "00000000-0000-0000-0000-000000000000"
STREAM = "/v1/leaderboard/stream"
OWN_PAGES = ("/", "/api/docs", "/openapi.json", "/health", "/health/detailed", "/metrics", "/favicon.ico", "/nothing")


def head(fortress: Fortress, method: str, path: str, **headers: str) -> httpx.Headers:
    """The headers of an answer; a stream's body is left alone."""
    url = fortress.url + re.sub("{.*?}", NOBODY, path)
    # Header values are bytes; a browser's are ASCII, an attacker's need not be.
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    with httpx.stream(method, url, headers=sent, timeout=30, verify=TLS) as answer:
        return answer.headers


def assert_nothing_for(origin: str, headers: httpx.Headers) -> None:
    """This origin may not read the answer, and no cache will give it one that another origin may read."""
    allowed = headers.get_list("access-control-allow-origin")
    assert allowed in ([], [FRIEND], [PORT_FRIEND])
    assert origin not in allowed
    assert "access-control-allow-credentials" not in headers
    assert "origin" in headers.get("vary", "").lower()


def paths(fortress: Fortress) -> list[tuple[str, str]]:
    """Every described operation below /v1, and what other sites import."""
    described = [(each.method, each.path) for each in contract_of(fortress.url).operations]
    return [each for each in described if each[1].startswith("/v1/")] + [("GET", "/static/scoreboard.js")]


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_stranger_reads_nothing(fortress: Fortress, origin: str) -> None:
    for method, path in (("GET", "/v1/leaderboard"), ("GET", STREAM), ("POST", "/v1/auth/login")):
        headers = head(fortress, method, path, Origin=origin)
        assert_nothing_for(origin, headers)
        assert "access-control-allow-origin" not in headers
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    headers = head(fortress, "OPTIONS", "/v1/auth/login", Origin=origin, **preflight)
    assert not [name for name in headers if name.startswith("access-control-")]


def test_no_operation_is_open_to_a_stranger(fortress: Fortress) -> None:
    for origin in ("https://game.example.stranger.example", "null"):
        for method, path in paths(fortress):
            headers = head(fortress, method, path, Origin=origin)
            assert_nothing_for(origin, headers)
            assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("origin", [FRIEND, PORT_FRIEND])
def test_a_friend_reads_every_operation_without_cookies(fortress: Fortress, origin: str) -> None:
    for method, path in paths(fortress):
        headers = head(fortress, method, path, Origin=origin)
        assert headers.get_list("access-control-allow-origin") == [origin], path
        assert "access-control-allow-credentials" not in headers
        assert "origin" in headers["vary"].lower()
        exposed = {name.strip().lower() for name in headers["access-control-expose-headers"].split(",")}
        assert exposed == READABLE


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_preflights_allow_a_friend_the_documented_headers_and_no_others(fortress: Fortress, method: str) -> None:
    asked = ", ".join([*sorted(SENDABLE), "cookie", "x-forwarded-for", "x-other"])
    for path in {path for _, path in paths(fortress)}:
        preflight = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
        headers = head(fortress, "OPTIONS", path, Origin=FRIEND, **preflight)
        assert headers.get_list("access-control-allow-origin") == [FRIEND]
        assert "access-control-allow-credentials" not in headers
        allowed = {name.strip() for name in headers["access-control-allow-headers"].split(",")}
        assert allowed == SENDABLE
        assert headers["access-control-allow-methods"] == "GET, HEAD, POST"
        # As long as browsers keep it at most.
        assert headers["access-control-max-age"] == "7200"


def test_preflights_for_other_methods_allow_nothing(fortress: Fortress) -> None:
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "*", "POST, DELETE"):
        headers = head(
            fortress, "OPTIONS", "/v1/leaderboard", Origin=FRIEND, **{"Access-Control-Request-Method": method}
        )
        assert "access-control-allow-methods" not in headers


@pytest.mark.parametrize("path", OWN_PAGES)
def test_our_own_pages_and_operators_figures_are_for_nobody_else(fortress: Fortress, path: str) -> None:
    for origin in (FRIEND, "https://stranger.example"):
        headers = head(fortress, "GET", path, Origin=origin, **fortress.operator)
        assert "access-control-allow-origin" not in headers


def test_a_ticket_is_for_a_friend_to_get_and_to_use(fortress: Fortress) -> None:
    token = fortress.sign_in()[0].json()["data"]["accessToken"]
    bearer = {"Authorization": f"Bearer {token}"}
    answer = fortress.call("POST", "/v1/stream/ticket", headers={**bearer, "Origin": FRIEND})
    assert answer.headers["access-control-allow-origin"] == FRIEND
    ticket = answer.json()["data"]["ticket"]
    url = f"{fortress.url}{STREAM}?ticket={ticket}"
    for origin, allowed in ((FRIEND, [FRIEND]), ("https://stranger.example", []), ("null", [])):
        with httpx.stream("GET", url, headers={"Origin": origin}, timeout=30) as opened:
            assert opened.status_code == 200
            assert opened.headers.get_list("access-control-allow-origin") == allowed
        refused = fortress.call("GET", f"{STREAM}?ticket=none", headers={"Origin": origin})
        assert refused.status_code == 401
        assert refused.headers.get_list("access-control-allow-origin") == allowed


def test_a_cookie_opens_no_stream_for_a_stranger_whatever_the_origin_looks_like(fortress: Fortress) -> None:
    _, cookies = fortress.sign_in()
    for origin in STRANGERS:
        answer = fortress.call("GET", STREAM, headers={"Origin": origin.encode()}, cookies=cookies)
        assert answer.status_code == 403, origin
        assert answer.json()["error"]["code"] == "INSUFFICIENT_PERMISSIONS"


def test_without_friends_nobody_is_told_anything(service: Service) -> None:
    for origin in (FRIEND, "null", service.url):
        for method, path in (
            ("GET", "/v1/leaderboard"),
            ("OPTIONS", "/v1/auth/login"),
            ("GET", "/static/scoreboard.js"),
        ):
            preflight = {"Access-Control-Request-Method": "POST"} if method == "OPTIONS" else {}
            answer = httpx.request(method, service.url + path, headers={"Origin": origin, **preflight}, timeout=30)
            assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "null",
        "https://*.game.example",
        "https://game.example/",
        "https://game.example/play",
        "https://(game|play).example",
        "https://user@game.example",
        "HTTPS://game.example",
        "game.example",
        "//game.example",
        "https://",
        f"{FRIEND}, *",
    ],
)
def test_an_origin_that_could_mean_more_than_it_says_stops_the_start(origins: str) -> None:
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        Settings.load(cors_origins=origins)


def test_origins_with_and_without_a_port_are_taken() -> None:
    assert Settings.load(cors_origins=f"{FRIEND},{PORT_FRIEND} http://localhost:3000").cors_origins == (
        FRIEND,
        PORT_FRIEND,
        "http://localhost:3000",
    )
