"""More load than the service can take: the excess gets 503, and accepted actions are settled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus

import httpx
import pytest

from tests.conftest import StartService
from tests.functional.client import Api, Json, Player, data_of, eventually, in_parallel, metric, register
from tests.service import Service

AT_ONCE = 2
# The longest wait that the service grants.
WAIT_S = 10


@pytest.fixture
def small(start_service: StartService) -> Service:
    """One web process that works on two requests at a time."""
    return start_service(WEB_CONCURRENCY="1", MAX_REQUESTS_AT_ONCE=str(AT_ONCE))


def test_the_excess_is_told_to_come_back_and_the_accepted_is_settled(small: Service) -> None:
    player = register(small.url)
    api = Api(small.url)
    # Hashing a password takes some ten milliseconds: those who come meanwhile find no room.
    body = {"username": player.username, "password": "not the password"}
    answers = in_parallel([lambda: api.post("/v1/auth/login", body) for _ in range(30)])
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert {answer.status_code for answer in answers} == {401, 503}
    for answer in refused:
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Request-ID"]
        assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert metric(small.url, "scoreboard_shed_requests_total") == len(refused)
    assert player.score_point()["newScore"] == 1


def test_requests_that_wait_for_an_outcome_leave_the_room_to_others(small: Service) -> None:
    """While the worker stands still ten wait, and the service still answers."""
    players = [register(small.url) for _ in range(5 * AT_ONCE)]
    actions = [(player, player.request_action()) for player in players]
    with ThreadPoolExecutor(len(actions)) as pool, small.frozen_worker():
        waiting = [pool.submit(complete_in_the_end, player, action) for player, action in actions]
        for player, action in actions:
            eventually(partial(status_of, player, action), lambda status: status == "accepted", WAIT_S - 2)
        assert not any(each.done() for each in waiting)
    assert [each.result().status_code for each in waiting] == [200] * len(actions)


def complete_in_the_end(player: Player, action: Json) -> httpx.Response:
    """As a client does: told to come back it comes back."""
    return eventually(
        lambda: player.complete(action, wait_s=WAIT_S),
        lambda answer: answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE,
    )


def status_of(player: Player, action: Json) -> str | None:
    answer = player.api.get(f"/v1/actions/{action['actionId']}")
    return str(data_of(answer)["status"]) if answer.is_success else None
