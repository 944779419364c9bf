"""`next`: a completion brings the next action's token along, or says why not, and is never the worse for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet

from scoreboard.local import LocalServers
from tests.functional.client import (
    QUICK,
    Admin,
    Json,
    Player,
    assert_refused,
    completion,
    create_staff,
    data_of,
    eventually,
    in_parallel,
    register,
)
from tests.functional.test_actions import at
from tests.service import Service, open_folder, running_service

NEXT: Json = {"actionType": QUICK, "metadata": {}}
TOKEN_FIELDS = {"actionId", "actionToken", "proofKey", "issuedAt", "expiresAt", "maxPoints"}
REQUESTS, MAX_OPEN = 6, 2
# Long enough for some calls on busy cores, short enough to wait for.
TTL_S = 5


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture(scope="module")
def game_server(service: Service) -> Player:
    return create_staff(service, "system")


@pytest.fixture(scope="module")
def narrow(local_servers: LocalServers) -> Iterator[Service]:
    """Few requests a minute, few open actions."""
    limits = {"RATE_LIMIT_REQUEST": f"{REQUESTS}/minute", "MAX_OPEN_ACTIONS": str(MAX_OPEN)}
    with running_service(local_servers, **limits) as running:
        yield running


@pytest.fixture
def narrow_player(narrow: Service) -> Player:
    return register(narrow.url)


def body_of(action: Json, wanted: object = NEXT, **more: Any) -> Json:
    return {**completion(action, **more), "next": wanted}


def send(player: Player, body: Json, wait_s: int | None = None) -> Json:
    """The data of the answer, which has to be a success."""
    response = player.send(body, wait_s)
    assert response.status_code in (200, 202), response.text
    data: Json = response.json()["data"]
    return data


def error_of(data: Json) -> Json:
    assert data["next"].keys() == {"error"}, data["next"]
    error: Json = data["next"]["error"]
    assert error.keys() == {"code", "message", "details"}
    return error


def spent(player: Player) -> int:
    """How many requests have counted against the player's limit, this one included; it opens no action."""
    headers = player.api.post("/v1/actions/request", {"actionType": "NO_SUCH_TYPE"}).headers
    return int(headers["X-RateLimit-Limit"]) - int(headers["X-RateLimit-Remaining"])


# -- play after play ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", [None, 10])
def test_play_after_play_is_one_call_each(player: Player, wait_s: int | None) -> None:
    action = player.request_action()
    for _ in range(4):
        data = send(player, body_of(action), wait_s)
        assert data["actionId"] == action["actionId"]
        assert data["next"].keys() == TOKEN_FIELDS
        assert data["next"]["actionId"] != action["actionId"]
        action = data["next"]
        assert player.action(action["actionId"])["status"] == "issued"
    assert data_of(player.complete(action))["status"] == "applied"
    eventually(player.score, lambda score: score["score"] == 5)


def test_the_next_action_is_what_was_asked_for(player: Player) -> None:
    wanted = {"actionType": "TAP_NUMBERS", "metadata": {"difficulty": "hard"}}
    told = send(player, body_of(player.request_action(), wanted))["next"]
    assert told["maxPoints"] == player.request_action("TAP_NUMBERS", {"difficulty": "hard"})["maxPoints"]
    assert player.action(told["actionId"])["actionType"] == "TAP_NUMBERS"
    # Metadata may be left out, as in a request.
    assert send(player, body_of(player.request_action(), {"actionType": QUICK}))["next"].keys() == TOKEN_FIELDS


def test_without_next_nothing_is_new(player: Player) -> None:
    for body in (completion(player.request_action()), body_of(player.request_action(), None)):
        assert send(player, body).keys() == {"actionId", "status", "statusUrl"}
        assert "next" not in send(player, body, wait_s=10)


def test_its_clock_starts_with_the_answer_also_after_a_wait(service: Service, player: Player) -> None:
    action = player.request_action()
    with service.frozen_worker():
        data = send(player, body_of(action), wait_s=2)
    assert data["status"] == "accepted"
    accepted_at = datetime.fromisoformat(player.action(action["actionId"])["acceptedAt"])
    issued_at, expires_at = (datetime.fromisoformat(data["next"][name]) for name in ("issuedAt", "expiresAt"))
    assert issued_at - accepted_at >= timedelta(seconds=1.9)
    assert expires_at - issued_at == timedelta(seconds=300)


def test_held_and_rejected_outcomes_bring_one_too(player: Player) -> None:
    rejected = send(player, body_of(player.request_action(), time_ms=60_000), wait_s=10)
    assert (rejected["status"], rejected["reason"]) == ("rejected", "CLOCK_MISMATCH")
    assert rejected["next"].keys() == TOKEN_FIELDS
    action, statuses = rejected["next"], []
    for _ in range(10):
        data = send(player, body_of(action), wait_s=10)
        statuses.append(data["status"])
        action = data["next"]
    assert "held" in statuses


# -- refusals ----------------------------------------------------------------------------------------------------------

MALFORMED: list[object] = [
    5,
    "TAP",
    [],
    [NEXT],
    {},
    {"actionType": 7},
    {"actionType": ""},
    {"actionType": QUICK, "metadata": []},
    {"actionType": QUICK, "metadata": {"a": "\0"}},
    {"actionType": QUICK, "metadata": {"too": "long" * 600}},
    {"actionType": QUICK, "onBehalfOf": None},
    {"actionType": "NO_SUCH_TYPE"},
    {"actionType": "TAP_NUMBERS", "metadata": {"difficulty": "absurd"}},
]


@pytest.mark.parametrize("wanted", MALFORMED)
def test_a_malformed_next_is_told_in_its_place(player: Player, wanted: object) -> None:
    data = send(player, body_of(player.request_action(), wanted))
    error = error_of(data)
    assert data["status"] == "accepted"
    assert error["code"] == "VALIDATION_FAILED"
    if isinstance(wanted, dict):
        refused = player.api.post(
            "/v1/actions/request", {**wanted, **({"onBehalfOf": 5} if "onBehalfOf" in wanted else {})}
        )
        told = refused.json()["error"]
        assert error["message"] == told["message"]
        assert error["details"]["fields"].keys() == told["details"]["fields"].keys()
    eventually(player.score, lambda score: score["score"] == 1)


@pytest.mark.parametrize("wanted", [NEXT, 5])
def test_a_refused_completion_brings_none_and_spends_no_request(narrow_player: Player, wanted: object) -> None:
    player = narrow_player
    action, done = player.request_action(), player.request_action()
    assert send(player, completion(done))["status"] == "accepted"
    refused = [
        ({**body_of(action, wanted), "actionToken": "forged"}, 400, "INVALID_ACTION_TOKEN"),
        (
            {**body_of(action, wanted), "proof": {"completionTime": 0, "checksum": "0" * 64}},
            400,
            "INVALID_ACTION_TOKEN",
        ),
        (body_of(action, wanted, points=3), 400, "VALIDATION_FAILED"),
        (body_of(done, wanted, time_ms=1), 409, "ACTION_ALREADY_COMPLETED"),
        ({**body_of(action, wanted), "more": 1}, 400, "VALIDATION_FAILED"),
    ]
    for body, status, code in refused:
        for wait_s in (None, 1):
            response = player.send(body, wait_s)
            assert_refused(response, status, code)
            assert "next" not in response.json()
    assert spent(player) == 3
    assert player.action(action["actionId"])["status"] == "issued"


def test_a_completed_action_makes_room_first(narrow_player: Player) -> None:
    actions = [narrow_player.request_action() for _ in range(MAX_OPEN)]
    data = send(narrow_player, body_of(actions[0]))
    assert data["next"].keys() == TOKEN_FIELDS
    assert narrow_player.api.post("/v1/actions/request", NEXT).status_code == 429
    data = send(narrow_player, body_of(actions[1]), wait_s=10)
    assert data["next"].keys() == TOKEN_FIELDS


def test_both_calls_limits_count_and_a_refusal_is_told_in_its_place(narrow_player: Player) -> None:
    player, action = narrow_player, narrow_player.request_action()
    for _ in range(REQUESTS - 1):
        action = send(player, body_of(action))["next"]
    last = body_of(action)
    error = error_of(send(player, last, wait_s=10))
    refused = player.api.post("/v1/actions/request", NEXT).json()["error"]
    assert error["code"] == refused["code"] == "RATE_LIMIT_EXCEEDED"
    assert error["message"] == refused["message"]
    assert abs(error["details"].pop("retryAfter") - refused["details"].pop("retryAfter")) <= 2
    assert error["details"] == refused["details"]
    assert data_of(player.send(last))["status"] == "applied"


def test_open_actions_that_are_too_many_are_told_in_their_place(narrow: Service, narrow_player: Player) -> None:
    """Of completions at once only so many find room for what comes next."""
    player = narrow_player
    first, second = player.request_action(), player.request_action()
    # A request takes the room before the wait is over.
    with narrow.frozen_worker(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, player, body_of(first), 2)
        eventually(lambda: player.action(first["actionId"])["status"], lambda status: status == "accepted")
        player.request_action()
        error = error_of(waiting.result())
    assert error["code"] == "TOO_MANY_OPEN_ACTIONS"
    assert 1 <= error["details"]["retryAfter"] <= 300
    # There is room again: the repeat brings one.
    send(player, completion(second))
    assert send(player, body_of(first))["next"].keys() == TOKEN_FIELDS


# -- repeats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", [None, 10])
def test_a_repeat_gets_the_same_token_whatever_it_asks_for(player: Player, wait_s: int | None) -> None:
    body = body_of(player.request_action())
    first = send(player, body, wait_s)["next"]
    assert first.keys() == TOKEN_FIELDS
    others = [NEXT, {"actionType": "TAP_NUMBERS", "metadata": {"difficulty": "easy"}}, 5, None]
    for wanted in others:
        for again_s in (None, 10):
            assert send(player, {**body, "next": wanted}, again_s)["next"] == first
    body.pop("next")
    assert send(player, body)["next"] == first
    outcome = data_of(player.complete(first))
    assert outcome["status"] == "applied"
    told = eventually(lambda: send(player, body)["next"], lambda told: told["status"] != "accepted")
    assert told == {"actionId": first["actionId"], "status": "applied"}
    assert send(player, {**body, "next": NEXT}, wait_s=10)["next"] == told


def test_a_repeat_brings_what_the_first_did_not_ask_for(player: Player) -> None:
    body = completion(player.request_action())
    assert "next" not in send(player, body)
    first = send(player, {**body, "next": NEXT})["next"]
    assert first.keys() == TOKEN_FIELDS
    assert send(player, body)["next"] == first


def test_a_repeat_that_issues_nothing_spends_no_request(narrow_player: Player) -> None:
    body = body_of(narrow_player.request_action())
    first = send(narrow_player, body)
    for wait_s in (None, 10, None):
        assert send(narrow_player, body, wait_s)["next"] == first["next"]
    assert spent(narrow_player) == 3


@pytest.mark.parametrize("wait_s", [None, 10])
def test_fifty_at_once_are_one_completion_and_one_token(player: Player, wait_s: int | None) -> None:
    body = body_of(player.request_action())
    told = in_parallel([partial(send, player, body, wait_s) for _ in range(50)])
    assert len({data["actionId"] for data in told}) == 1
    assert {frozenset(data["next"].items()) for data in told} == {frozenset(told[0]["next"].items())}
    assert told[0]["next"].keys() == TOKEN_FIELDS
    eventually(player.score, lambda score: score["score"] == 1)


def test_different_nexts_at_once_are_one_token_that_is_good(player: Player) -> None:
    action = player.request_action()
    kinds = [NEXT, {"actionType": "TAP_NUMBERS", "metadata": {"difficulty": "easy"}}]
    told = in_parallel([partial(send, player, body_of(action, kinds[number % 2])) for number in range(30)])
    (token,) = {data["next"]["actionToken"] for data in told}
    following = next(data["next"] for data in told if data["next"]["actionToken"] == token)
    assert data_of(player.complete(following, time_ms=0))["actionId"] == following["actionId"]


@pytest.fixture(scope="module")
def old_and_new(local_servers: LocalServers) -> Iterator[tuple[Service, Service]]:
    """Two services on the same data: before and after a rotation of the keys."""
    old_key, new_key = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    ttl = {"ACTION_TOKEN_TTL_S": str(TTL_S)}
    with ExitStack() as closing:
        old = closing.enter_context(running_service(local_servers, ACTION_TOKEN_KEYS=old_key, **ttl))
        shared = {"DATABASE_URL": old.database_url, "REDIS_URL": old.redis_url, **ttl}
        keys = f"{new_key},{old_key}"
        yield old, closing.enter_context(running_service(local_servers, ACTION_TOKEN_KEYS=keys, **shared))


def test_the_same_token_comes_again_after_a_rotation_of_keys(old_and_new: tuple[Service, Service]) -> None:
    old, rotated = old_and_new
    player = register(old.url)
    body = body_of(player.request_action())
    first = send(player, body)["next"]
    assert send(at(rotated, player), body)["next"] == first
    assert data_of(at(rotated, player).complete(first))["status"] == "applied"


def test_a_token_whose_time_is_over_shows_as_expired(old_and_new: tuple[Service, Service]) -> None:
    player = register(old_and_new[0].url)
    body = body_of(player.request_action())
    first = send(player, body)["next"]
    deadline = time.monotonic() + 4 * TTL_S
    while (told := send(player, body)["next"]) == first:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert told == {"actionId": first["actionId"], "status": "expired"}


# -- other callers, other times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", [None, 10])
def test_a_game_server_plays_on_for_its_player(game_server: Player, player: Player, wait_s: int | None) -> None:
    on_behalf: Json = {"onBehalfOf": player.id}
    action = game_server.request_action(**on_behalf)
    body = {**body_of(action), **on_behalf}
    following = send(game_server, body, wait_s)["next"]
    assert following.keys() == TOKEN_FIELDS
    assert send(game_server, body)["next"] == following
    shown = player.action(following["actionId"])
    assert (shown["status"], game_server.action(following["actionId"])) == ("issued", shown)
    assert data_of(game_server.send({**completion(following), **on_behalf}))["status"] == "applied"


def test_a_flagged_player_plays_on_within_their_limit(admin: Admin, player: Player) -> None:
    actions = [player.request_action() for _ in range(2)]
    admin.act(player.id, "flag")
    assert send(player, body_of(actions[0]))["next"].keys() == TOKEN_FIELDS
    assert_refused(player.send(body_of(actions[1])), 429, "RATE_LIMIT_EXCEEDED")


def log_out(_admin: Admin, player: Player) -> None:
    data_of(player.api.post("/v1/auth/logout"))


def ban(admin: Admin, player: Player) -> None:
    admin.act(player.id, "ban")


def flag(admin: Admin, player: Player) -> None:
    admin.act(player.id, "flag")


@pytest.mark.parametrize(
    ("change", "code"),
    [(ban, "ACCOUNT_BANNED"), (log_out, "INVALID_TOKEN"), (flag, None)],
    ids=["ban", "logout", "flag"],
)
def test_who_changes_between_accept_and_issue(
    service: Service, admin: Admin, player: Player, change: Callable[[Admin, Player], None], code: str | None
) -> None:
    action = player.request_action()
    with service.frozen_worker(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, player, body_of(action), 3)
        eventually(lambda: admin.action(action["actionId"])["status"], lambda status: status == "accepted")
        change(admin, player)
        data = waiting.result()
    assert data["status"] == "accepted"
    if code is None:
        assert data["next"].keys() == TOKEN_FIELDS
    else:
        assert error_of(data)["code"] == code
    assert (
        eventually(lambda: admin.action(action["actionId"])["status"], lambda status: status != "accepted") == "applied"
    )


def test_a_ban_of_the_player_stops_what_a_game_server_asks_for_next(
    service: Service, admin: Admin, game_server: Player, player: Player
) -> None:
    on_behalf: Json = {"onBehalfOf": player.id}
    action = game_server.request_action(**on_behalf)
    with service.frozen_worker(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, game_server, {**body_of(action), **on_behalf}, 3)
        eventually(lambda: admin.action(action["actionId"])["status"], lambda status: status == "accepted")
        ban(admin, player)
        assert error_of(waiting.result())["code"] == "ACCOUNT_BANNED"


# -- while something is down -------------------------------------------------------------------------------------------


@pytest.fixture
def postgres() -> Iterator[LocalServers]:
    """One that only this test uses, and stops."""
    with open_folder() as folder, LocalServers(folder, with_valkey=False) as servers:
        yield servers


def test_postgres_goes_between_accept_and_issue(postgres: LocalServers) -> None:
    with running_service(postgres) as service:
        player = register(service.url)
        body = body_of(player.request_action())
        with service.frozen_worker(), ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(player.send, body, 3)
            eventually(lambda: player.action(body["actionId"])["status"], lambda status: status == "accepted")
            postgres.postgres.kill()
            answer = waiting.result()
        data = data_of(answer, 202)
        assert error_of(data)["code"] == "SERVICE_UNAVAILABLE"
        assert error_of(data)["details"]["retryAfter"] >= 1
        postgres.postgres.start()
        service.wait_until_up()
        told = data_of(player.send(body))
        assert told["status"] == "applied"
        assert told["next"].keys() == TOKEN_FIELDS


def test_without_redis_each_process_counts_requests_for_itself(local_servers: LocalServers) -> None:
    with running_service(local_servers, RATE_LIMIT_REQUEST=f"{REQUESTS}/hour", WEB_CONCURRENCY="1") as service:
        player = register(service.url)
        action = player.request_action()
        service.servers.valkey.kill()
        for _ in range(REQUESTS):
            data = send(player, body_of(action))
            action = data["next"]
            assert action.keys() == TOKEN_FIELDS
        error = error_of(send(player, body_of(action)))
        assert error["code"] == "RATE_LIMIT_EXCEEDED"
        assert error["details"].items() >= {"limit": "request", "per": "player"}.items()


def test_nothing_but_the_field_is_new(player: Player) -> None:
    """An unknown field is still refused, in the completion and beside `next`."""
    response: httpx.Response = player.send({**body_of(player.request_action()), "nexts": NEXT})
    assert_refused(response, 400, "VALIDATION_FAILED", "nexts")
