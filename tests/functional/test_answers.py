"""Every operation's answer is its model, field by field, and so is every event's data.

mypy holds what a view builds against the model that it names. What mypy can't see is tried here on a running service:
this model is the declared one, stored and decoded data have its shape, and the fields come in the model's order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from flask import Flask
from pydantic import TypeAdapter, ValidationError

from app import create_app
from config import Settings
from scoreboard.local import LocalServers
from scoreboard.web.api import responses
from scoreboard.web.api.operation import Operation, operation_of
from scoreboard.web.api.refusals import Error
from scoreboard.wire.events import STREAM_EVENTS
from tests.functional import client
from tests.functional.batches import row, send
from tests.functional.client import Admin, Api, Json, Player, data_of
from tests.service import Service, running_service

# Served by a path and a status, such as ("actions.complete_action", 202).
Served = tuple[str, int]


def problem(model: Any, value: object) -> str | None:
    """What tells a JSON value from its model: a field that is missing, unknown, of another type or in another place."""
    adapter = TypeAdapter(model)
    try:
        understood = adapter.validate_json(orjson.dumps(value), strict=True, extra="forbid")
    except ValidationError as error:
        return str(error)
    again = orjson.loads(adapter.dump_json(understood))
    if again != value:
        return f"is understood as {again}"
    return None if _names(again) == _names(value) else f"names its fields {_names(value)}, not {_names(again)}"


def _names(value: object) -> object:
    """The names of the fields, in order, as deep as the objects of one list."""
    if isinstance(value, dict):
        return [(name, _names(item) if isinstance(item, list) else None) for name, item in value.items()]
    return [_names(item) for item in value] if isinstance(value, list) else None


class CheckedApi(Api):
    """Holds every answer against the model that its operation declares for that status."""

    def __init__(self, app: Flask, served: set[Served], url: str, token: str | None = None) -> None:
        super().__init__(url, token)
        self._app, self._served = app, served

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = super().call(method, path, **options)
        endpoint, _ = self._app.url_map.bind("localhost").match(path, method)
        operation = operation_of(self._app.view_functions[endpoint])
        assert operation is not None
        if response.status_code >= 400:
            assert problem(Error, response.json()) is None
            return response
        model = models_of(operation)[response.status_code]
        assert list(response.json()) == ["success", "data"]
        assert problem(model, response.json()["data"]) is None
        self._served.add((endpoint, response.status_code))
        return response


def models_of(operation: Operation) -> dict[int, Any]:
    """The models of the successful answers in JSON, by status."""
    return {operation.status: operation.answer, **operation.also} if operation.answer is not None else {}


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers) -> Iterator[Service]:
    with running_service(local_servers, HEARTBEAT_S="1") as running:
        yield running


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings.load(database_url="postgresql://nobody@127.0.0.1/none", redis_url="redis://127.0.0.1:1"))


def test_every_operation_answers_with_its_model(arena: Service, app: Flask) -> None:
    served: set[Served] = set()

    def as_caller(token: str | None = None) -> CheckedApi:
        return CheckedApi(app, served, arena.url, token)

    player, admin = client.register(arena.url), client.create_staff(arena)
    player.api, admin.api = as_caller(player.access_token), as_caller(admin.access_token)
    sign_in_and_out(as_caller(), as_caller)
    play(player)
    look_around(player, as_caller())
    moderate(admin, player)
    server = client.create_staff(arena, "system")
    server.api = as_caller(server.access_token)
    send_batches(server, player)
    check_health(as_caller())
    declared = {
        (endpoint, status)
        for endpoint, view in app.view_functions.items()
        if (operation := operation_of(view)) is not None
        for status in models_of(operation)
    }
    assert served == declared


def sign_in_and_out(anonymous: CheckedApi, as_caller: Any) -> None:
    body = client.registration()
    data_of(anonymous.post("/v1/auth/register", body), 201)
    credentials = {"username": body["username"], "password": body["password"]}
    pair = data_of(anonymous.post("/v1/auth/login", credentials))
    renewed = data_of(anonymous.post("/v1/auth/refresh", {"refreshToken": pair["refreshToken"]}))
    data_of(as_caller(renewed["accessToken"]).post("/v1/auth/logout"))
    client.assert_refused(anonymous.post("/v1/auth/login", {"username": "x"}), 400, "VALIDATION_FAILED", "password")


def play(player: Player) -> None:
    """An outcome with points, one with a broken bound, and one that is not awaited."""
    data_of(player.api.get("/v1/actions/types"))
    assert player.score_point()["status"] == "applied"
    quick = player.request_action("COMPLETE_LEVEL", {"difficulty": "easy"})
    rejected = data_of(player.complete(quick))
    assert rejected["reasonDetails"]["bound"] == "minimum"
    assert player.action(quick["actionId"])["reasonDetails"] is not None
    later = player.request_action()
    assert data_of(player.complete(later, wait_s=None, data="lap 3"), 202)["status"] == "accepted"
    assert player.settled_action(later["actionId"])["data"] == "lap 3"


def look_around(player: Player, anonymous: CheckedApi) -> None:
    data_of(anonymous.get("/v1/leaderboard", limit=100))
    data_of(anonymous.get("/v1/leaderboard/top10"))
    data_of(anonymous.get(f"/v1/leaderboard/around/{player.id}"))
    data_of(player.api.get("/v1/leaderboard/around/me"))
    data_of(anonymous.get(f"/v1/users/{player.id}/score"))
    assert player.score()["totalActions"] == 2
    assert len(player.history()) == 2
    data_of(player.api.post("/v1/stream/ticket"))


def moderate(admin: Admin, player: Player) -> None:
    for step in ("flag", "clear", "ban", "unban"):
        admin.act(player.id, step)
    # An answer that was stored is told again as it was.
    again: dict[str, str] = {"Idempotency-Key": "the very same"}
    body = {"amount": 5, "reason": "a prize"}
    answers = [admin.api.post(f"/v1/admin/users/{player.id}/adjust", body, **again) for _ in range(2)]
    assert answers[0].content == answers[1].content
    data_of(admin.api.get(f"/v1/admin/users/{player.id}"))
    data_of(admin.api.get("/v1/admin/users", q=player.username))
    assert client.pages(admin.api, "/v1/admin/audit")
    data_of(admin.api.get("/v1/admin/stats"))
    data_of(admin.api.post("/v1/admin/leaderboard/rebuild"), 202)


def send_batches(server: Player, player: Player) -> None:
    rows = [row(player), row(player, externalId="")]
    taken, refused = data_of(send(server, rows))["items"]
    assert (taken["status"], refused["error"]["code"]) == ("applied", "VALIDATION_FAILED")
    (later,) = data_of(send(server, [row(player)], wait_s=None), 202)["items"]
    assert later["status"] == "accepted"


def check_health(anonymous: CheckedApi) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/health/detailed"):
        data_of(anonymous.get(path))


def test_every_event_carries_its_model(arena: Service) -> None:
    player = client.register(arena.url)
    with player.stream(last_event_id="1:1") as stream:
        stream.wait_for("reset")
        stream.wait_for("heartbeat")
        player.score_point()
        player.complete(player.request_action("COMPLETE_LEVEL", {"difficulty": "easy"}))
        stream.wait_for(lambda event: "reasonDetails" in event.data)
        stream.wait_for("rank:change")
        stream.wait_for(lambda event: event.event == "leaderboard:update" and event.json()["updatedUser"] is not None)
        seen = list(stream.events)
    refused = httpx.get(f"{arena.url}/v1/leaderboard/stream", params={"ticket": "none", "refusals": "event"})
    told: list[tuple[str, Json]] = [(event.event, event.json()) for event in seen]
    told.append(("refused", json.loads(refused.text.partition("data: ")[2])))
    assert {(name, problem(STREAM_EVENTS[name], data)) for name, data in told} == {
        (name, None) for name in STREAM_EVENTS
    }


# -- the check can fail ----------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"ticket": "t"},
        {"ticket": "t", "expiresIn": 60, "more": None},
        {"ticket": "t", "expiresIn": "60"},
        {"expiresIn": 60, "ticket": "t"},
    ],
    ids=["missing", "unknown", "of another type", "in another place"],
)
def test_a_field_that_is_not_as_in_the_model_is_noticed(value: Json) -> None:
    assert problem(responses.Ticket, {"ticket": "t", "expiresIn": 60}) is None
    assert problem(responses.Ticket, value) is not None
