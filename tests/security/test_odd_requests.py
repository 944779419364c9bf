"""What no honest client sends: methods, paths, headers and bodies at the edge of HTTP and beyond."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import uuid4

import httpx
import pytest

from scoreboard.web.api.cursors import encode_cursor
from tests.functional.client import Api, assert_refused, completion, data_of, login, register
from tests.security.beside import web_beside
from tests.security.cast import Cast
from tests.security.doors import REQUESTS, Door, all_doors
from tests.security.raw import RawAnswer, connect, exchange, read_answer, request
from tests.service import Service

JSON_TYPE = "Content-Type: application/json"
LOGIN = "POST /v1/auth/login"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
ROUTES = sorted({door.rule for door in all_doors()})


def assert_like_any_refusal(answer: RawAnswer, *statuses: int) -> None:
    """In JSON, with an id, without a word of what was sent, and nothing behind it."""
    assert answer.status in statuses, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.json()["success"] is False
    assert answer.json()["error"]["code"] in ("VALIDATION_FAILED", "NOT_FOUND", "BODY_TOO_LARGE"), answer
    assert answer.rest == b"", "one request, one answer"


# -- methods ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ROUTES)
def test_no_route_takes_another_method_than_its_own(cast: Cast, rule: str) -> None:
    own = {door.method for door in all_doors() if door.rule == rule}
    path = REQUESTS[Door(min(own), rule)](cast, None).path
    for method in METHODS:
        if method not in own:
            answer = cast.admin.api.call(method, path)
            assert_refused(answer, 405, "METHOD_NOT_ALLOWED")
            assert own <= set(answer.headers["Allow"].split(", "))
    options = Api(cast.url).call("OPTIONS", path)
    assert (options.status_code, options.content) == (200, b"")
    assert own <= set(options.headers["Allow"].split(", "))


@pytest.mark.parametrize("name", OVERRIDES)
def test_no_header_or_field_changes_the_method(cast: Cast, name: str) -> None:
    path = f"/v1/admin/users/{cast.victim.id}"
    answer = cast.admin.api.call("GET", path, headers={name: "DELETE"}, params={"_method": "DELETE"})
    assert data_of(answer)["status"] == "active"
    assert_refused(Api(cast.url).post("/v1/leaderboard", **{name: "GET"}), 405, "METHOD_NOT_ALLOWED")


# -- paths -----------------------------------------------------------------------------

NOT_PATHS = [
    "/v1//leaderboard", "/v1/leaderboard//", "//evil.example/v1/leaderboard",
    "/v1/./leaderboard", "/v1/x/../leaderboard", "/v1/x/%2e%2e/leaderboard", "/v1/leaderboard/.",
    "/v1/leaderboard;a=b", "/v1/leaderboard%00", "/v1/leaderboard%20", "/v1/leaderboard%0a", "/v1/leaderboard.json",
    "/V1/leaderboard", "/v1/Leaderboard", "/v1\\leaderboard", "/v1/leaderboard%3flimit=1", "/v1/%256ceaderboard",
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_PATHS)
def test_each_path_has_one_spelling(service: Service, path: str) -> None:
    """No redirect either: it would go where the Host header says."""
    answer = exchange(service.url, request(f"GET {path}"))
    assert_like_any_refusal(answer, 404)
    assert "location" not in answer.headers


ADMIN_SPELLINGS = ["/v1/%61dmin/users", "/%76%31/admin/users", "/v1/admin%2fusers", "/v1/admin/%75sers"]


@pytest.mark.parametrize("path", ADMIN_SPELLINGS)
def test_a_path_in_disguise_is_guarded_all_the_same(cast: Cast, path: str) -> None:
    token = f"Authorization: Bearer {cast.player.access_token}"
    assert exchange(cast.url, request(f"GET {path}")).json()["error"]["code"] == "INVALID_TOKEN"
    assert exchange(cast.url, request(f"GET {path}", token)).json()["error"]["code"] == "INSUFFICIENT_PERMISSIONS"


OUTSIDE = [
    "/static/../../../config.py", "/static/..%2f..%2f..%2fconfig.py", "/static/%2e%2e/%2e%2e/%2e%2e/config.py",
    "/static/....//....//config.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..%5c..%5cconfig.py",
    "/static/..%252f..%252fconfig.py", "/static/", "/static/.", "/static/..", "/static/scoreboard", "/static/%00",
    "/static/scoreboard.js%00.svg", "/static/file:%2f%2f%2fetc%2fpasswd", "/../config.py", "/config.py", "/.git/HEAD",
    "/.env", "/var/server.json",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_static_files(service: Service, path: str) -> None:
    assert_like_any_refusal(exchange(service.url, request(f"GET {path}")), 404)


@pytest.mark.parametrize("start", ["GET http://evil.example/v1/leaderboard", "OPTIONS *", "CONNECT evil.example:443"])
def test_the_service_is_no_proxy(service: Service, start: str) -> None:
    answer = exchange(service.url, request(start))
    assert answer.status in (200, 404, 405)
    assert b"evil.example" not in answer.body
    assert answer.rest == b""


@pytest.mark.parametrize("header", ["Host: evil.example", "X-Forwarded-Host: evil.example", "X-Forwarded-Prefix: /evil",
                                    "SCRIPT_NAME: /evil", "Script-Name: /evil", "X-Original-URL: /v1/admin/users",
                                    "X-Rewrite-URL: /v1/admin/users", "PATH_INFO: /v1/admin/users"])  # fmt: skip
def test_no_header_changes_the_path_or_the_addresses_in_answers(cast: Cast, header: str) -> None:
    name, _, value = header.partition(": ")
    for path in ("/", "/favicon.ico", "/openapi.json", "/v1/leaderboard"):
        answer = Api(cast.url).call("GET", path, headers={name: value})
        assert answer.status_code in (200, 308)
        assert "evil" not in answer.text + answer.headers.get("location", "")
    action = cast.player.request_action()
    status_url = data_of(cast.player.api.post("/v1/actions/complete", completion(action), **{name: value}), 202)
    assert status_url["statusUrl"] == f"/v1/actions/{action['actionId']}"


# -- moments and places that there are not -----------------------------------------------

MOMENTS = [
    "2026-01-01T00:00:00+23:59", "2026-01-01T00:00:00-23:59", "2026-01-01T00:00:00+16:00", "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z", "1e400", "-1e18", "0",
]  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_moment_at_the_edge_of_time_is_taken_or_refused(cast: Cast, moment: str) -> None:
    """Also in a cursor of somebody's own making."""
    cursor = encode_cursor(moment, uuid4().hex)
    for path, query in (("audit", {"since": moment}), ("audit", {"until": moment}), ("users", {"cursor": cursor})):
        assert cast.admin.api.get(f"/v1/admin/{path}", **query).status_code in (200, 400)


@pytest.mark.parametrize("number", [-1, 0, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)])
def test_a_place_beyond_any_list_is_taken_or_refused(cast: Cast, number: int) -> None:
    cursor = encode_cursor(number)
    assert cast.admin.api.get("/v1/admin/audit", cursor=cursor).status_code in (200, 400)
    assert cast.player.api.get("/v1/users/me/history", cursor=cursor).status_code in (200, 400)


# -- what is no HTTP -------------------------------------------------------------------

SMUGGLED = b"GET /v1/admin/users HTTP/1.1\r\nHost: service.test\r\n\r\n"
NO_HTTP: dict[str, bytes] = {
    "two kinds of length": request(LOGIN, JSON_TYPE, "Content-Length: 4", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n" + SMUGGLED,
    "two lengths": request(LOGIN, JSON_TYPE, "Content-Length: 0", "Content-Length: 60") + SMUGGLED,
    "two lengths in one": request(LOGIN, JSON_TYPE, "Content-Length: 0, 60") + SMUGGLED,
    "a signed length": request(LOGIN, JSON_TYPE, "Content-Length: +5") + b"hello",
    "a negative length": request(LOGIN, JSON_TYPE, "Content-Length: -5") + b"hello",
    "a length in hex": request(LOGIN, JSON_TYPE, "Content-Length: 0x5") + b"hello",
    "an unknown coding": request(LOGIN, JSON_TYPE, "Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED,
    "chunked twice": request(LOGIN, JSON_TYPE, "Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n" + SMUGGLED,
    "a space before the colon": request(LOGIN, "Transfer-Encoding : chunked") + b"0\r\n\r\n" + SMUGGLED,
    "a folded header": request("GET /health", "X-A: a\r\n b"),
    "a NUL in a header": request("GET /health", "X-A: a\0b"),
    "a bare CR in a header": request("GET /health", "X-A: a\rX-B: b"),
    "a header without a name": request("GET /health", ": a"),
    "a bare line feed": b"GET /health HTTP/1.1\nHost: x\n\n",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET /health HTTP/9.9\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no line at all": b"\r\n\r\n\r\n\r\nnonsense\r\n\r\n",
    "a long address": request("GET /" + "a" * 9_000),
    "a long header": request("GET /health", "X-A: " + "a" * 9_000),
    "many headers": request("GET /health", *(f"X-{number}: a" for number in range(100))),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_HTTP)
def test_what_is_no_http_is_refused_like_everything_and_ends_the_connection(service: Service, kind: str) -> None:
    """One answer: nothing that hides behind it is taken for a second request."""
    assert_like_any_refusal(exchange(service.url, NO_HTTP[kind]), 400, 414, 431)


BAD_CHUNKS = {
    "no number": b"ZZ\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "wrong length": b"3\r\nhello\r\n0\r\n\r\n",
    "an empty line": b"\r\n\r\n",
}


@pytest.mark.parametrize("kind", BAD_CHUNKS)
@pytest.mark.parametrize("start", [LOGIN, "POST /v1/auth/refresh", "POST /v1/auth/logout"])
def test_a_body_in_bad_chunks_is_refused(service: Service, start: str, kind: str) -> None:
    sent = request(start, JSON_TYPE, "Transfer-Encoding: chunked", body=BAD_CHUNKS[kind])
    answer = exchange(service.url, sent)
    assert answer.status in (400, 401), answer
    assert answer.json()["error"]["code"] in ("VALIDATION_FAILED", "INVALID_TOKEN")


def test_a_body_that_ends_early_is_refused(service: Service) -> None:
    with connect(service.url) as connection:
        connection.sendall(request(LOGIN, JSON_TYPE, "Content-Length: 100", body=b'{"username": "x"'))
        connection.shutdown(socket.SHUT_WR)
        assert_like_any_refusal(read_answer(connection), 400)


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Encoding: deflate, br"])
def test_a_packed_body_is_not_unpacked(service: Service, header: str) -> None:
    """So a small one cannot become a large one inside."""
    body = gzip.compress(b'{"username": "x", "password": "y"}')
    sent = request(LOGIN, JSON_TYPE, header, f"Content-Length: {len(body)}", body=body)
    assert_like_any_refusal(exchange(service.url, sent), 400)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-16", "application/json; charset=x", "text/json"])
def test_json_is_utf_8_whatever_the_header_says(cast: Cast, kind: str) -> None:
    body = '{"username": "nobody at all", "password": "x"}'
    api = Api(cast.url)
    wide = httpx.post(f"{api.url}/v1/auth/login", content=body.encode("utf-16"), headers={"Content-Type": kind})
    assert wide.status_code in (400, 415)
    plain = httpx.post(f"{api.url}/v1/auth/login", content=body.encode(), headers={"Content-Type": kind})
    assert plain.status_code in (401, 415)


# -- bodies that do not come -----------------------------------------------------------

AT_ONCE = 5
SILENT = 4 * AT_ONCE


@pytest.fixture(scope="module")
def few_at_once(service: Service) -> Iterator[Service]:
    """One web process that works on few requests at a time."""
    with web_beside(service, WEB_CONCURRENCY="1", MAX_REQUESTS_AT_ONCE=str(AT_ONCE), ENVIRONMENT="development") as few:
        yield few


def test_who_begins_a_body_and_falls_silent_keeps_nobody_out(few_at_once: Service) -> None:
    """They hold no place, and a body that comes late but whole is taken."""
    url = few_at_once.url
    player = register(url)
    credentials = f'{{"username": "{player.username}", "password": "{player.password}"}}'.encode()
    with ExitStack() as open_ones:
        late = open_ones.enter_context(connect(url))
        late.sendall(request(LOGIN, JSON_TYPE, f"Content-Length: {len(credentials)}", body=credentials[:5]))
        for number in range(SILENT):
            silent = open_ones.enter_context(connect(url))
            kind = "Transfer-Encoding: chunked" if number % 2 else "Content-Length: 100"
            silent.sendall(request(LOGIN, JSON_TYPE, kind, body=b"1\r\n{\r\n" if number % 2 else b"{"))
        for _ in range(AT_ONCE):
            assert Api(url).get("/v1/leaderboard").status_code == 200
            assert login(url, player.username).id == player.id
        late.sendall(credentials[5:])
        assert read_answer(late).status == 200
