"""Bad input of every kind gets a clear refusal, never a failure, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.functional.client import (
    PASSWORD,
    Admin,
    Api,
    Json,
    Player,
    assert_refused,
    completion,
    create_staff,
    data_of,
    pages,
    register,
    registration,
)
from tests.service import Service

JSON_TYPE = {"Content-Type": "application/json"}
LIMIT_BYTES = 64 * 1024
DEEP = 20_000


@dataclass
class World:
    """An admin, a player with some points and an open action; the same before and after everything."""

    admin: Admin
    player: Player
    open_action: Json

    def path(self, template: str) -> str:
        return template.format(id=self.player.id)

    def caller(self, template: str) -> Api:
        if "/admin/" in template:
            return self.admin.api
        return Api(self.player.url) if "/auth/" in template else self.player.api

    def snapshot(self) -> list[object]:
        return [
            self.player.history(),
            {**self.player.score(), "rank": None, "percentile": None},
            self.player.action(self.open_action["actionId"]),
            data_of(self.admin.api.get(f"/v1/admin/users/{self.player.id}")),
        ]


@pytest.fixture(scope="module")
def world(service: Service) -> Iterator[World]:
    admin, player = create_staff(service), register(service.url)
    admin.adjust(player, 100)
    world = World(admin, player, player.request_action())
    before = world.snapshot()
    yield world
    assert world.snapshot() == before


def valid_body(world: World, template: str) -> Json:
    action = world.open_action
    return {
        "/v1/auth/register": registration(),
        "/v1/auth/login": {"username": world.player.username, "password": PASSWORD},
        "/v1/auth/refresh": {"refreshToken": world.player.refresh_token},
        "/v1/actions/request": {"actionType": "SOLVE_PROBLEM", "metadata": {"problem": "A"}},
        "/v1/actions/complete": completion(action, data="x"),
    }.get(template, {"reason": "why", **({"amount": 1} if template.endswith("adjust") else {})})


POSTS = [
    "/v1/auth/register",
    "/v1/auth/login",
    "/v1/auth/refresh",
    "/v1/actions/request",
    "/v1/actions/complete",
    *(f"/v1/admin/users/{{id}}/{action}" for action in ("ban", "unban", "flag", "clear", "adjust")),
]
NOT_JSON = {
    "cut short": b'{"username": ',
    "a word": b"nonsense",
    "single quotes": b"{'a': 1}",
    "two values": b"{} {}",
    "not UTF-8": b'{"username": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a NUL": b"\0",
    "a bare NUL in a string": b'{"username": "a\0b"}',
    "a bare line feed in a string": b'{"username": "a\nb"}',
    "a lone surrogate": b'{"username": "\\ud800"}',
    "not a number": b'{"username": NaN}',
    "beyond any number": b'{"username": 1e400}',
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * (DEEP // 2) + b"1" + b"}" * (DEEP // 2),
    "an array": b"[]",
    "a string": b'"text"',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
}


def send(world: World, template: str, content: bytes, **headers: str) -> httpx.Response:
    options: dict[str, Any] = {"content": content, "headers": {**JSON_TYPE, **headers}}
    return world.caller(template).call("POST", world.path(template), **options)


@pytest.mark.parametrize("kind", NOT_JSON)
@pytest.mark.parametrize("template", POSTS)
def test_what_is_no_json_object_is_refused(world: World, template: str, kind: str) -> None:
    assert_refused(send(world, template, NOT_JSON[kind]), 400, "VALIDATION_FAILED")


@pytest.mark.parametrize("template", [each for each in POSTS if not each.endswith("refresh")])
def test_an_empty_body_is_refused(world: World, template: str) -> None:
    assert_refused(send(world, template, b""), 400, "VALIDATION_FAILED")


@pytest.mark.parametrize("template", POSTS)
def test_an_unknown_field_is_refused_by_its_name(world: World, template: str) -> None:
    body = {**valid_body(world, template), "surprise": 1}
    response = send(world, template, json.dumps(body).encode())
    assert_refused(response, 400, "VALIDATION_FAILED", "surprise")


@pytest.mark.parametrize("template", POSTS)
def test_a_body_over_the_limit_is_refused(world: World, template: str) -> None:
    body = json.dumps({**valid_body(world, template), "filler": "x" * LIMIT_BYTES}).encode()
    assert_refused(send(world, template, body), 413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("template", POSTS)
def test_a_body_of_unknown_length_over_the_limit_is_refused(world: World, template: str) -> None:
    """Also when what lies within the limit would be a right body by itself."""
    # Of its own, as a body that is taken against the rule must not spoil what the others see.
    player = register(world.player.url)
    own = World(world.admin, player, player.request_action())
    valid = json.dumps(valid_body(own, template)).encode()

    def chunks() -> Iterator[bytes]:
        yield valid.ljust(1024)
        for _ in range(100):
            yield b" " * 1024

    # Not by way of the client, whose checks read the body again.
    caller = own.caller(template)
    headers = {**caller.headers, **JSON_TYPE}
    response = httpx.post(f"{caller.url}{own.path(template)}", content=chunks(), headers=headers)
    assert_refused(response, 413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("template", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_another_content_type_is_refused(world: World, template: str, kind: str) -> None:
    body = json.dumps(valid_body(world, template)).encode()
    assert_refused(send(world, template, body, **{"Content-Type": kind}), 415, "UNSUPPORTED_MEDIA_TYPE")


# -- fields ----------------------------------------------------------------------------

REQUIRED = {
    "/v1/auth/register": ("username", "password"),
    "/v1/auth/login": ("username", "password"),
    "/v1/actions/request": ("actionType",),
    "/v1/actions/complete": ("actionId", "actionToken", "proof"),
    "/v1/admin/users/{id}/adjust": ("amount", "reason"),
    "/v1/admin/users/{id}/ban": ("reason",),
}
FIELDS = [(template, name) for template, names in REQUIRED.items() for name in names]
# May be left out, or null.
OPTIONAL = [("/v1/auth/register", "email")]
NEVER: list[object] = [None, True, 1.5, [], [["x"]], {"$ne": ""}, {"": {}}]


@pytest.mark.parametrize(("template", "name"), FIELDS)
def test_a_missing_field_is_named(world: World, template: str, name: str) -> None:
    body = valid_body(world, template)
    del body[name]
    assert_refused(send(world, template, json.dumps(body).encode()), 400, "VALIDATION_FAILED", name)


@pytest.mark.parametrize(("template", "name"), FIELDS + OPTIONAL)
def test_a_value_of_the_wrong_type_is_refused(world: World, template: str, name: str) -> None:
    for value in NEVER[1:] if (template, name) in OPTIONAL else NEVER:
        body = {**valid_body(world, template), name: value}
        assert_refused(send(world, template, json.dumps(body).encode()), 400, "VALIDATION_FAILED")


ABSURD_NUMBERS = ["1e400", "-1e400", str(2**70), str(-(2**70)), "1.5", "1e1", '"1"', "true", "null", "[1]", "9" * 5_000]


@pytest.mark.parametrize("number", [*ABSURD_NUMBERS, "-1"])
@pytest.mark.parametrize("name", ["completionTime", "points"])
def test_an_absurd_number_in_a_proof_is_refused(world: World, name: str, number: str) -> None:
    body = completion(world.open_action, points=1 if name == "points" else None)
    body["proof"][name] = "HERE"
    raw = json.dumps(body).replace('"HERE"', number).encode()
    if name == "points" and number == "null":
        pytest.skip("null is no points, which is as good as none")
    assert_refused(send(world, "/v1/actions/complete", raw), 400, "VALIDATION_FAILED")


@pytest.mark.parametrize("number", ABSURD_NUMBERS)
def test_an_absurd_adjustment_is_refused(world: World, number: str) -> None:
    raw = f'{{"amount": {number}, "reason": "why"}}'.encode()
    assert_refused(send(world, "/v1/admin/users/{id}/adjust", raw), 400, "VALIDATION_FAILED")


LOOKED_AT = [each for each in FIELDS + OPTIONAL if each[1] not in ("reason", "password")]


@pytest.mark.parametrize("text", ["\0", "a\0b", "\x1b[2J", "\ufffe", "\u2028"])
@pytest.mark.parametrize(("template", "name"), LOOKED_AT)
def test_odd_characters_are_a_clear_refusal(world: World, template: str, name: str, text: str) -> None:
    body = {**valid_body(world, template), name: text}
    response = send(world, template, json.dumps(body).encode())
    assert response.status_code in (400, 401), response.text


def test_odd_characters_in_a_password_are_only_a_wrong_password(world: World) -> None:
    for text in ("\0" * 8, "\u2028" * 8, "\x1b[2J\x1b[2J"):
        body = {"username": world.player.username, "password": text}
        assert_refused(Api(world.player.url).post("/v1/auth/login", body), 401, "INVALID_CREDENTIALS")


@pytest.mark.parametrize(
    "metadata",
    [
        {"problem": "\0"},
        {"problem": "x" * 1000},
        {"problem": {"nested": 1}},
        {"a" * 1000: 1},
        {"problem\0": "x"},
        {str(number): number for number in range(1000)},
    ],
    ids=["NUL", "long", "nested", "long name", "NUL in a name", "many"],
)
def test_odd_metadata_are_refused(world: World, metadata: Json) -> None:
    body = {"actionType": "SOLVE_PROBLEM", "metadata": metadata}
    assert_refused(world.player.api.post("/v1/actions/request", body), 400, "VALIDATION_FAILED")


def test_data_may_not_hold_what_the_database_cannot(service: Service) -> None:
    player = register(service.url)
    action = player.request_action()
    for data in ("\0", "before\0after"):
        assert_refused(player.complete(action, data=data), 400, "VALIDATION_FAILED", "data")
    assert data_of(player.complete(action, data="\u2028\x1b[2J<script>"))["status"] == "applied"


# -- paths and queries -----------------------------------------------------------------

GETS_BY_ID = ["/v1/actions/{}", "/v1/users/{}/score", "/v1/leaderboard/around/{}", "/v1/admin/users/{}"]


@pytest.mark.parametrize("template", GETS_BY_ID)
@pytest.mark.parametrize(
    "value",
    [
        "x",
        "0",
        "-1",
        "%00",
        "%ff",
        "..%2f..%2fetc",
        "'--",
        "null",
        "x" * 2_000,
        "{0}",
        "8a6e0804-2bd0-4672-b79d-d97027f9071a0",
        "8a6e0804-2bd0-4672-b79d-d97027f9071a",
    ],
)
def test_an_unknown_or_odd_id_is_not_found(world: World, template: str, value: str) -> None:
    assert_refused(world.admin.api.get(template.replace("{}", value)), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/", "/v1/leaderboard/", "/v2/leaderboard", "/v1/%ff", "/%00"])
def test_an_unknown_path_is_not_found_in_json(service: Service, path: str) -> None:
    assert_refused(Api(service.url).get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/leaderboard"),
        ("DELETE", "/v1/leaderboard"),
        ("PUT", "/v1/auth/login"),
        ("GET", "/v1/auth/login"),
        ("PATCH", "/v1/users/me/score"),
        ("POST", "/v1/leaderboard/stream"),
        ("DELETE", "/v1/actions/types"),
        ("GET", "/v1/stream/ticket"),
        ("TRACE", "/v1/leaderboard"),
        ("INVENTED", "/v1/leaderboard"),
    ],
)
def test_another_method_is_refused_in_json(service: Service, method: str, path: str) -> None:
    response = Api(service.url).call(method, path)
    assert_refused(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"]


LISTS = ["/v1/users/me/history", "/v1/admin/users", "/v1/admin/audit"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "query",
    [
        "cursor=x", "cursor=", "cursor=%00", "cursor=%ff", "cursor=eyJhIjoxfQ", "cursor=bnVsbA",
        "cursor=W251bGwsbnVsbF0", "cursor=WyIyMDI2IiwgIngiXQ", "cursor=" + "A" * 500,
        "limit=0", "limit=101", "limit=-1", "limit=1.5", "limit=x", "limit=", "limit=%00",
        "limit=99999999999999999999", "limit=1&limit=2", "surprise=1",
    ],
)  # fmt: skip
def test_a_bad_query_of_a_list_is_refused(world: World, path: str, query: str) -> None:
    api = world.admin.api if "/admin/" in path else world.player.api
    assert_refused(api.get(f"{path}?{query}"), 400, "VALIDATION_FAILED")


def test_a_cursor_of_one_list_is_no_cursor_of_another(world: World) -> None:
    cursor = data_of(world.admin.api.get("/v1/admin/audit", limit=1))["nextCursor"]
    assert cursor
    response = world.admin.api.get("/v1/admin/users", cursor=cursor)
    assert_refused(response, 400, "VALIDATION_FAILED", "cursor")


@pytest.mark.parametrize("query", ["q=%00", "q=" + "x" * 1000])
def test_a_bad_search_word_is_refused(world: World, query: str) -> None:
    assert_refused(world.admin.api.get(f"/v1/admin/users?{query}"), 400, "VALIDATION_FAILED", "q")


# -- headers ---------------------------------------------------------------------------


def test_a_request_id_is_echoed_and_an_odd_one_replaced(service: Service) -> None:
    api = Api(service.url)
    given = uuid4().hex
    assert api.call("GET", "/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given
    assert api.call("GET", "/nothing", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given
    for odd in ("x" * 500, '"><script>', "a b", "é".encode()):
        answered = api.call("GET", "/health", headers={"X-Request-ID": odd}).headers["X-Request-ID"]
        assert answered not in (odd, "")


def test_odd_headers_do_no_harm(service: Service) -> None:
    api = Api(service.url)
    odd = {
        "If-None-Match": '"' + "x" * 3000,
        "Accept": "application/xml",
        "Accept-Encoding": "nonsense",
        "Origin": "null",
        "Cookie": "access_token_cookie",
        "User-Agent": "x" * 4_000,
        "Last-Event-ID": "é",
    }
    for name, value in odd.items():
        assert api.call("GET", "/v1/leaderboard", headers={name: value.encode()}).status_code == 200, name
    body = {"username": "nobody at all", "password": "x"}
    response = api.post("/v1/auth/login", body, **{"User-Agent": "x" * 4_000})
    assert_refused(response, 401, "INVALID_CREDENTIALS")


def test_nothing_was_written_for_anybody_else(world: World, service: Service) -> None:
    """No refused registration left an account behind."""
    for text in ("surprise", "text"):
        assert pages(world.admin.api, "/v1/admin/users", q=text) == []
