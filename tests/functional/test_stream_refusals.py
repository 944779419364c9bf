"""A refused stream tells EventSource why, in the same call, when it is asked to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from scoreboard.local import LocalServers
from tests.functional import client
from tests.functional.client import Json, Player
from tests.service import Service, running_service

PATH = "/v1/leaderboard/stream"
STREAMS_PER_USER = 1


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers) -> Iterator[Service]:
    settings = {"MAX_STREAMS_PER_USER": str(STREAMS_PER_USER), "PUBLIC_LEADERBOARD": "false"}
    with running_service(local_servers, **settings) as running:
        yield running


@pytest.fixture
def player(arena: Service) -> Player:
    return client.register(arena.url)


def refused(answer: httpx.Response) -> Json:
    """What the one event says."""
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"].startswith("no-store")
    assert "Retry-After" not in answer.headers
    retry, event, data = answer.text.removesuffix("\n\n").split("\n")
    assert retry.startswith("retry: ")
    assert event == "event: refused"
    told: Json = json.loads(data.removeprefix("data: "))
    return told


def test_too_many_streams_say_when_to_come_back(arena: Service, player: Player) -> None:
    with ExitStack() as others:
        for _ in range(STREAMS_PER_USER):
            others.enter_context(player.stream())
        plain = player.api.get(PATH)
        told = refused(player.api.get(PATH, refusals="event"))
    error = plain.json()["error"]
    assert plain.status_code == 429
    assert (told["status"], told["code"], told["message"]) == (429, "TOO_MANY_STREAMS", error["message"])
    assert told["retryAfter"] == int(plain.headers["Retry-After"])


@pytest.mark.parametrize("ticket", ["garbage", None])
def test_who_may_not_watch_hears_that_too(arena: Service, ticket: str | None) -> None:
    params = {"refusals": "event", **({"ticket": ticket} if ticket else {})}
    told = refused(httpx.get(arena.url + PATH, params=params))
    assert (told["status"], told["code"], told["retryAfter"]) == (401, "INVALID_TOKEN", None)


@pytest.mark.parametrize("refusals", [None, "", "events", "event "])
def test_everybody_else_gets_the_status(arena: Service, refusals: str | None) -> None:
    answer = httpx.get(arena.url + PATH, params={} if refusals is None else {"refusals": refusals})
    assert answer.status_code == 401


def test_only_the_stream_answers_so(arena: Service) -> None:
    assert httpx.get(arena.url + "/v1/leaderboard", params={"refusals": "event"}).status_code in (400, 401)
