"""Limits: the defaults of the specification, counted per caller and per address.

The service stands behind one trusted proxy, so each test calls from an address of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count

import httpx
import pytest

from scoreboard.local import LocalServers
from tests.functional.client import (
    PASSWORD,
    Admin,
    Api,
    Player,
    assert_refused,
    completion,
    create_staff,
    data_of,
    in_parallel,
    new_name,
    pages,
    register,
)
from tests.functional.sse import SseClient, SseRefused
from tests.service import GENEROUS_LIMITS, Service, running_service

ANONYMOUS_MAX = 70
STREAMS_PER_ADDRESS_MAX = 4
_addresses = (f"10.{number // 250}.0.{number % 250 + 1}" for number in count(1))


@pytest.fixture(scope="module")
def limited(local_servers: LocalServers) -> Iterator[Service]:
    """A service with the default limits; two are lower, as a test can't make thousands of calls."""
    # An empty setting is the default.
    defaults = dict.fromkeys(GENEROUS_LIMITS, "")
    own = {
        "RATE_LIMIT_ANONYMOUS": f"{ANONYMOUS_MAX}/hour",
        "MAX_STREAMS_PER_IP": str(STREAMS_PER_ADDRESS_MAX),
        "TRUSTED_PROXIES": "1",
    }
    with running_service(local_servers, **{**defaults, **own}) as service:
        yield service


@pytest.fixture(scope="module")
def admin(limited: Service) -> Admin:
    return create_staff(limited)


@pytest.fixture
def address() -> str:
    return next(_addresses)


@pytest.fixture
def player(limited: Service, address: str) -> Player:
    return from_address(register_from(limited.url, next(_addresses)), address)


def at(url: str, address: str, token: str | None = None) -> Api:
    return Api(url, token, **{"X-Forwarded-For": address})


def register_from(url: str, address: str) -> Player:
    body = {"username": new_name(), "email": f"{address}@example.com", "password": PASSWORD}
    data = data_of(at(url, address).post("/v1/auth/register", body), 201)
    user = data["user"]
    return Player(url, user["id"], user["username"], body["email"], data["accessToken"], data["refreshToken"])


def from_address(player: Player, address: str) -> Player:
    moved = replace(player)
    moved.api = at(player.url, address, player.access_token)
    return moved


def assert_limited(response: httpx.Response, at_most_s: int, at_least_s: int = 1) -> None:
    assert_refused(response, 429, "RATE_LIMIT_EXCEEDED")
    assert at_least_s <= int(response.headers["Retry-After"]) <= at_most_s
    assert response.headers["X-RateLimit-Remaining"] == "0"


def login_from(url: str, address: str, username: str, password: str = PASSWORD) -> httpx.Response:
    return at(url, address).post("/v1/auth/login", {"username": username, "password": password})


# -- signing in ------------------------------------------------------------------------


def test_five_logins_per_name_and_address(limited: Service, player: Player, address: str) -> None:
    wrong = "not the password"
    answers = [login_from(limited.url, address, player.username, each) for each in (PASSWORD, wrong, PASSWORD, wrong)]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 401]
    remaining = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    assert remaining == [4, 3, 2, 1]
    # The same name, written another way.
    assert login_from(limited.url, address, player.username.upper()).status_code == 200
    assert_limited(login_from(limited.url, address, player.username), 900)
    assert login_from(limited.url, next(_addresses), player.username).status_code == 200
    other = register_from(limited.url, next(_addresses))
    assert login_from(limited.url, address, other.username).status_code == 200


def test_logins_at_once_are_counted_as_exactly(limited: Service, player: Player, address: str) -> None:
    calls = [lambda: login_from(limited.url, address, player.username, "not the password")] * 20
    assert sorted(answer.status_code for answer in in_parallel(calls)) == [401] * 5 + [429] * 15


def test_fifty_logins_per_address_over_all_names(limited: Service, address: str) -> None:
    calls = [lambda: login_from(limited.url, address, new_name("nobody"))] * 51
    assert sorted(answer.status_code for answer in in_parallel(calls)) == [401] * 50 + [429]


# -- actions ---------------------------------------------------------------------------


def test_twenty_requests_a_minute(limited: Service, player: Player) -> None:
    def ask() -> httpx.Response:
        return player.api.post("/v1/actions/request", {"actionType": "NO_SUCH_TYPE", "metadata": {}})

    for _ in range(20):
        assert_refused(ask(), 400, "VALIDATION_FAILED")
    assert_limited(ask(), 60)


def test_one_completion_a_second_counting_refused_ones(player: Player) -> None:
    action = player.request_action()
    assert_refused(player.send({}), 400, "VALIDATION_FAILED")
    assert_limited(player.complete(action), 1)
    time.sleep(1.1)
    assert data_of(player.complete(action))["status"] == "applied"
    assert_limited(player.complete(action), 1)


def test_ten_completions_a_minute_counting_refused_ones(player: Player) -> None:
    action = player.request_action()
    for _ in range(10):
        player.send({})
    time.sleep(1.1)
    assert_limited(player.complete(action), 60, at_least_s=2)
    assert player.action(action["actionId"])["status"] == "issued", "a refusal never uses the token up"


def test_a_limit_holds_against_calls_made_at_once(player: Player) -> None:
    action = player.request_action()
    body = completion(action)
    answers = in_parallel([lambda: player.send(body)] * 10)
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 9


def test_five_open_actions(player: Player) -> None:
    for _ in range(5):
        player.request_action()
    response = player.api.post("/v1/actions/request", {"actionType": "SOLVE_PROBLEM", "metadata": {}})
    assert_refused(response, 429, "TOO_MANY_OPEN_ACTIONS")


def test_one_completion_a_minute_when_flagged(admin: Admin, player: Player) -> None:
    admin.act(player.id, "flag")
    player.score_point()
    time.sleep(1.1)
    assert_limited(player.complete(player.request_action()), 60, at_least_s=2)


# -- reading ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_signed_in", [False, True])
def test_sixty_reads_of_the_board_a_minute_per_address(
    limited: Service, player: Player, address: str, is_signed_in: bool
) -> None:
    api = player.api if is_signed_in else at(limited.url, address)
    paths = ["/v1/leaderboard", "/v1/leaderboard/top10", f"/v1/leaderboard/around/{player.id}"]
    for number in range(60):
        assert api.get(paths[number % 3]).status_code == 200
    for path in paths:
        assert_limited(api.get(path), 60)
    assert at(limited.url, next(_addresses)).get("/v1/leaderboard").status_code == 200


def test_thirty_reads_of_the_own_score_a_minute(player: Player) -> None:
    for _ in range(30):
        player.score()
    assert_limited(player.api.get("/v1/users/me/score"), 60)
    assert_limited(from_address(player, next(_addresses)).api.get("/v1/users/me/score"), 60)


def test_anonymous_callers_have_a_limit_for_everything(limited: Service, player: Player, address: str) -> None:
    anonymous = at(limited.url, address)
    for _ in range(ANONYMOUS_MAX):
        data_of(anonymous.get("/v1/actions/types"))
    assert_limited(anonymous.get("/v1/actions/types"), 3600, at_least_s=61)
    assert_limited(anonymous.post("/v1/auth/register", {}), 3600, at_least_s=61)
    data_of(player.api.get("/v1/actions/types"))
    assert anonymous.get("/health").status_code == 200, "probes are never limited"


def test_bad_tokens_count_as_anonymous(limited: Service, address: str) -> None:
    api = at(limited.url, address, "garbage")
    for _ in range(ANONYMOUS_MAX):
        assert_refused(api.get("/v1/users/me/history"), 401, "INVALID_TOKEN")
    assert api.get("/v1/users/me/history").status_code == 429


# -- streams ---------------------------------------------------------------------------


def open_from(url: str, address: str) -> SseClient:
    return SseClient(f"{url}/v1/leaderboard/stream", headers={"X-Forwarded-For": address})


def test_streams_of_one_address_are_capped_and_so_are_their_openings(limited: Service, address: str) -> None:
    def refusal() -> SseRefused:
        with pytest.raises(SseRefused) as refused:
            open_from(limited.url, address)
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        return refused.value

    with ExitStack() as open_ones:
        for _ in range(STREAMS_PER_ADDRESS_MAX):
            open_ones.enter_context(open_from(limited.url, address)).wait_for("leaderboard:initial")
        for _ in range(30 - STREAMS_PER_ADDRESS_MAX):
            assert '"TOO_MANY_STREAMS"' in refusal().body
        assert '"RATE_LIMIT_EXCEEDED"' in refusal().body
        with open_from(limited.url, next(_addresses)) as elsewhere:
            elsewhere.wait_for("leaderboard:initial")


# -- addresses -------------------------------------------------------------------------


def test_only_the_trusted_proxys_own_word_counts(limited: Service, player: Player, address: str) -> None:
    """With one proxy the last entry is its own; whatever stands before it was the caller's invention."""
    answers = [login_from(limited.url, f"192.0.2.{number}, {address}", player.username) for number in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]


def test_without_a_trusted_proxy_a_forwarded_address_is_ignored(service: Service) -> None:
    player = register(service.url)
    for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP"):
        value = "for=192.0.2.9" if header == "Forwarded" else "192.0.2.9"
        body = {"username": player.username, "password": "not the password"}
        Api(service.url, **{header: value}).post("/v1/auth/login", body)
    items = pages(create_staff(service).api, "/v1/admin/audit", userId=player.id, event="user.login_failed")
    assert [item["ip"] for item in items] == ["127.0.0.1"] * 4


@pytest.mark.parametrize("value", ["garbage", "", "1.2.3.4.5", "::1%eth0", "x" * 2_000, "1.2.3.4,,"])
def test_an_odd_forwarded_address_does_no_harm(limited: Service, value: str) -> None:
    assert at(limited.url, value).get("/v1/leaderboard/top10").status_code in (200, 429)
