"""Limits: the defaults of the specification, counted per caller and per address.

The service stands behind one trusted proxy, so each test calls from an address of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import count

import httpx
import pytest

from scoreboard.local import LocalServers
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
    in_parallel,
    new_name,
    pages,
    register,
)
from tests.functional.sse import SseClient, SseRefused
from tests.service import GENEROUS_LIMITS, Service, running_service

ANONYMOUS_MAX = 70
STREAMS_PER_ADDRESS_MAX = 4
# The defaults have room for hundreds; a test makes some dozen calls.
READS_MAX, READS_OF_ONE_MAX = 60, 6
OPENINGS_MAX, OPENINGS_OF_ONE_MAX = 30, 5
FAILURES_MAX = 10
_addresses = (f"10.{number // 250}.0.{number % 250 + 1}" for number in count(1))


@pytest.fixture(scope="module")
def limited(local_servers: LocalServers) -> Iterator[Service]:
    """A service with the default limits; those for a crowd are lower, as a test can't make thousands of calls."""
    # An empty setting is the default.
    defaults = dict.fromkeys(GENEROUS_LIMITS, "")
    own = {
        "RATE_LIMIT_ANONYMOUS": f"{ANONYMOUS_MAX}/hour",
        "MAX_STREAMS_PER_IP": str(STREAMS_PER_ADDRESS_MAX),
        "RATE_LIMIT_READ": f"{READS_MAX}/minute",
        "RATE_LIMIT_READ_USER": f"{READS_OF_ONE_MAX}/minute",
        "RATE_LIMIT_STREAM": f"{OPENINGS_MAX}/5 minutes",
        "RATE_LIMIT_STREAM_USER": f"{OPENINGS_OF_ONE_MAX}/5 minutes",
        "RATE_LIMIT_LOGIN_ADDRESS": f"{FAILURES_MAX}/15 minutes",
        "RATE_LIMIT_REFRESH": f"{FAILURES_MAX}/15 minutes",
        "RATE_LIMIT_REGISTER": f"{FAILURES_MAX}/hour",
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


def assert_limited(response: httpx.Response, at_most_s: int, at_least_s: int = 1, **details: str) -> None:
    """Refused, and a page can say why and until when."""
    assert_refused(response, 429, "RATE_LIMIT_EXCEEDED")
    retry_after_s = int(response.headers["Retry-After"])
    assert at_least_s <= retry_after_s <= at_most_s
    assert response.headers["X-RateLimit-Remaining"] == "0"
    shown = response.json()["error"]["details"]
    assert {"limit", "per", "rate", "retryAfter"} == shown.keys()
    # Each is read from the clock, one a moment after the other.
    assert abs(shown["retryAfter"] - retry_after_s) <= 1
    assert details.items() <= shown.items(), shown


def login_from(url: str, address: str, username: str, password: str = PASSWORD) -> httpx.Response:
    return at(url, address).post("/v1/auth/login", {"username": username, "password": password})


def in_a_second(
    limited: Service, send: Callable[[Player, Json], list[httpx.Response]]
) -> tuple[Player, Json, list[httpx.Response]]:
    """A new player, their action, and what came of calls that were made within one second, whatever else the machine
    does; a busy one needs another try.
    """
    for _ in range(10):
        player = from_address(register_from(limited.url, next(_addresses)), next(_addresses))
        action = player.request_action()
        started = time.monotonic()
        answers = send(player, action)
        if time.monotonic() - started < 1:
            return player, action, answers
    pytest.fail("the calls never were within a second")


# -- signing in ------------------------------------------------------------------------


def test_five_logins_per_name_and_address(limited: Service, player: Player, address: str) -> None:
    wrong = "not the password"
    answers = [login_from(limited.url, address, player.username, each) for each in (PASSWORD, wrong, PASSWORD, wrong)]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 401]
    remaining = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    assert remaining == [4, 3, 2, 1]
    # The same name, written another way.
    assert login_from(limited.url, address, player.username.upper()).status_code == 200
    assert_limited(login_from(limited.url, address, player.username), 900, limit="login", per="user name and address")
    assert login_from(limited.url, next(_addresses), player.username).status_code == 200
    other = register_from(limited.url, next(_addresses))
    assert login_from(limited.url, address, other.username).status_code == 200


def test_spellings_of_a_name_share_its_limit(limited: Service, player: Player, address: str) -> None:
    spellings = ["{}", "{} ", " {}", "{}\n", "\ufeff{}"]
    for spelling in spellings:
        refused = login_from(limited.url, address, spelling.format(player.username), "not the password")
        assert_refused(refused, 401, "INVALID_CREDENTIALS")
    assert_limited(login_from(limited.url, address, f"{player.username}\u00a0"), 900)


def test_logins_at_once_are_counted_as_exactly(limited: Service, player: Player, address: str) -> None:
    calls = [lambda: login_from(limited.url, address, player.username, "not the password")] * 20
    assert sorted(answer.status_code for answer in in_parallel(calls)) == [401] * 5 + [429] * 15


def test_failed_logins_are_limited_per_address_over_all_names(limited: Service, address: str) -> None:
    calls = [lambda: login_from(limited.url, address, new_name("nobody"))] * (FAILURES_MAX + 1)
    answers = sorted(in_parallel(calls), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [401] * FAILURES_MAX + [429]
    assert_limited(answers[-1], 900, at_least_s=2, limit="login_address", per="address", rate="10 per 15 minute")


def test_logins_that_succeed_leave_room_for_others_at_the_address(limited: Service, address: str) -> None:
    """Also those at the same moment; and however many succeed meanwhile, no more may fail."""
    players = [register_from(limited.url, next(_addresses)) for _ in range(FAILURES_MAX - 1)]
    for _ in range(2):
        right = [partial(login_from, limited.url, address, each.username) for each in players]
        assert {answer.status_code for answer in in_parallel(right)} == {200}
    wrong = [partial(login_from, limited.url, address, new_name("nobody")) for _ in range(40)]
    mixed = [call for pair in zip(wrong, right * 5, strict=False) for call in pair]
    answers = in_parallel(mixed)
    assert sum(answer.status_code == 401 for answer in answers) <= FAILURES_MAX
    assert login_from(limited.url, address, new_name("nobody")).status_code == 429


def test_refreshes_that_succeed_leave_room_for_others_at_the_address(limited: Service, address: str) -> None:
    player = register_from(limited.url, next(_addresses))
    tokens = player.refresh_token
    for _ in range(FAILURES_MAX + 2):
        answer = at(limited.url, address).post("/v1/auth/refresh", {"refreshToken": tokens})
        tokens = data_of(answer)["refreshToken"]
    refused = [at(limited.url, address).post("/v1/auth/refresh", {"refreshToken": "x"}) for _ in range(FAILURES_MAX)]
    assert [answer.status_code for answer in refused] == [401] * FAILURES_MAX
    answer = at(limited.url, address).post("/v1/auth/refresh", {"refreshToken": tokens})
    assert_limited(answer, 900, at_least_s=2, limit="refresh", per="address")


def test_new_accounts_are_limited_per_address(limited: Service, address: str) -> None:
    answers = [at(limited.url, address).post("/v1/auth/register", {}) for _ in range(FAILURES_MAX + 1)]
    assert [answer.status_code for answer in answers] == [400] * FAILURES_MAX + [429]
    assert_limited(answers[-1], 3600, at_least_s=61, limit="register", per="address")


# -- actions ---------------------------------------------------------------------------


def test_twenty_requests_a_minute(limited: Service, player: Player) -> None:
    def ask() -> httpx.Response:
        return player.api.post("/v1/actions/request", {"actionType": "NO_SUCH_TYPE", "metadata": {}})

    for _ in range(20):
        assert_refused(ask(), 400, "VALIDATION_FAILED")
    assert_limited(ask(), 60)


def test_one_completion_a_second_counting_refused_ones(limited: Service) -> None:
    player, action, (refused, second) = in_a_second(limited, lambda each, own: [each.send({}), each.complete(own)])
    assert_refused(refused, 400, "VALIDATION_FAILED")
    assert_limited(second, 1)
    time.sleep(1.1)
    assert data_of(player.complete(action))["status"] == "applied"


def test_one_completion_a_second_counting_accepted_ones(limited: Service) -> None:
    _, _, (first, second) = in_a_second(limited, lambda each, own: [each.complete(own, None) for _ in range(2)])
    data_of(first, 202)
    assert_limited(second, 1)


def test_ten_completions_a_minute_counting_refused_ones(player: Player) -> None:
    action = player.request_action()
    for _ in range(10):
        player.send({})
    time.sleep(1.1)
    assert_limited(player.complete(action), 60, at_least_s=2)
    assert player.action(action["actionId"])["status"] == "issued", "a refusal never uses the token up"


def test_a_limit_holds_against_calls_made_at_once(limited: Service) -> None:
    def all_at_once(player: Player, action: Json) -> list[httpx.Response]:
        return in_parallel([lambda: player.send(completion(action), None)] * 10)

    _, _, answers = in_a_second(limited, all_at_once)
    assert sorted(answer.status_code for answer in answers) == [202] + [429] * 9


def test_five_open_actions(player: Player) -> None:
    for _ in range(5):
        player.request_action()
    response = player.api.post("/v1/actions/request", {"actionType": "SOLVE_PROBLEM", "metadata": {}})
    assert_refused(response, 429, "TOO_MANY_OPEN_ACTIONS")


def test_one_completion_a_minute_when_flagged(admin: Admin, player: Player) -> None:
    admin.act(player.id, "flag")
    player.score_point()
    time.sleep(1.1)
    assert_limited(player.complete(player.request_action()), 60, at_least_s=2, limit="complete_flagged", per="player")


def test_one_completion_a_minute_when_flagged_whoever_sends_it(limited: Service, admin: Admin, player: Player) -> None:
    """A game server's completions count for the player, as the player's own do; other players of it play on."""
    server, other = create_staff(limited, role="system"), register_from(limited.url, next(_addresses))

    def serve(served: Player) -> httpx.Response:
        return send(server.request_action(onBehalfOf=served.id), served.id)

    def send(action: Json, spelling: str) -> httpx.Response:
        return server.send({**completion(action), "onBehalfOf": spelling})

    admin.act(player.id, "flag")
    for _ in range(3):
        assert data_of(serve(other))["status"] == "applied"
        time.sleep(1.1)
    assert data_of(serve(player))["status"] == "applied"
    time.sleep(1.1)
    action = server.request_action(onBehalfOf=player.id)
    for spelling in (player.id, player.id.upper(), player.id.replace("-", ""), f"urn:uuid:{player.id}"):
        assert_limited(send(action, spelling), 60, at_least_s=2, limit="complete_flagged", per="player")
        time.sleep(1.1)
    assert_limited(player.complete(action), 60, at_least_s=2, limit="complete_flagged", per="player")
    admin.act(player.id, "clear")
    time.sleep(1.1)
    assert data_of(send(action, player.id))["status"] == "applied"


# -- reading ---------------------------------------------------------------------------


def read_paths(player: Player) -> list[str]:
    """One after the other, without end."""
    around = f"/v1/leaderboard/around/{player.id}"
    return [
        "/v1/leaderboard",
        "/v1/leaderboard/top10",
        around,
        f"/v1/users/{player.id}/score",
        "/v1/actions/types",
    ] * 50


def test_reads_of_callers_not_signed_in_count_together_per_address(
    limited: Service, player: Player, address: str
) -> None:
    paths = read_paths(player)
    for path in paths[:READS_MAX]:
        assert at(limited.url, address).get(path).status_code == 200
    for path in paths[:5]:
        assert_limited(at(limited.url, address).get(path), 60, limit="read", per="address")
    assert at(limited.url, next(_addresses)).get("/v1/leaderboard").status_code == 200
    assert player.api.get("/v1/leaderboard").status_code == 200, "who is signed in has a counter of their own"


def test_reads_of_a_signed_in_player_count_for_the_account(limited: Service, player: Player, address: str) -> None:
    paths = read_paths(player)
    for path in paths[:READS_OF_ONE_MAX]:
        assert player.api.get(path).status_code == 200
    assert_limited(player.api.get("/v1/leaderboard"), 60, limit="read", per="account")
    assert_limited(from_address(player, next(_addresses)).api.get("/v1/leaderboard"), 60, limit="read", per="account")
    neighbour = from_address(register_from(limited.url, next(_addresses)), address)
    assert neighbour.api.get("/v1/leaderboard").headers["X-RateLimit-Limit"] == str(READS_OF_ONE_MAX)
    assert at(limited.url, address).get("/v1/leaderboard").status_code == 200


def test_signed_in_players_of_an_address_read_ten_times_as_much_together(limited: Service, address: str) -> None:
    """More accounts make more room up to here, and no further."""
    cap = 10 * READS_MAX
    players = [from_address(register_from(limited.url, next(_addresses)), address) for _ in range(6)]
    # What refuses an account counts for its address all the same.
    calls = [partial(each.api.get, "/v1/leaderboard/top10") for each in players] * (cap // len(players))
    assert {answer.status_code for answer in in_parallel(calls)} == {200, 429}
    late = from_address(register_from(limited.url, next(_addresses)), address)
    assert_limited(late.api.get("/v1/leaderboard"), 60, limit="read", per="address", rate=f"{cap} per 1 minute")


@pytest.mark.parametrize("path", ["/v1/leaderboard", "/v1/actions/types", "/v1/leaderboard/top10"])
def test_a_head_counts_as_a_get_and_a_preflight_as_nothing(limited: Service, address: str, path: str) -> None:
    def remaining(method: str) -> str | None:
        value: str | None = at(limited.url, address).call(method, path).headers.get("X-RateLimit-Remaining")
        return value

    assert [remaining(method) for method in ("GET", "OPTIONS", "HEAD", "OPTIONS", "GET")] == [
        str(READS_MAX - 1),
        None,
        str(READS_MAX - 2),
        None,
        str(READS_MAX - 3),
    ]


def test_thirty_reads_of_the_own_score_a_minute(player: Player) -> None:
    for _ in range(30):
        player.score()
    assert_limited(player.api.get("/v1/users/me/score"), 60)
    assert_limited(from_address(player, next(_addresses)).api.get("/v1/users/me/score"), 60)


def test_anonymous_callers_have_a_limit_for_what_needs_a_token(limited: Service, player: Player, address: str) -> None:
    anonymous = at(limited.url, address)
    for _ in range(ANONYMOUS_MAX):
        assert_refused(anonymous.get("/v1/users/me/score"), 401, "INVALID_TOKEN")
    assert_limited(anonymous.get("/v1/users/me/score"), 3600, at_least_s=61, limit="anonymous", per="address")
    assert_limited(anonymous.post("/v1/actions/request", {}), 3600, at_least_s=61, limit="anonymous", per="address")
    # What a page does by itself, and what lets people in, goes on.
    for path in ("/v1/leaderboard", "/v1/actions/types", "/health"):
        data_of(anonymous.get(path))
    with open_from(limited.url, address) as stream:
        stream.wait_for("leaderboard:initial")
    assert_refused(anonymous.post("/v1/auth/refresh", {"refreshToken": "x"}), 401, "INVALID_TOKEN")
    assert login_from(limited.url, address, player.username).status_code == 200
    assert register_from(limited.url, address).id
    assert player.score()["score"] == 0


def test_preflights_cost_nothing(limited: Service, address: str) -> None:
    for _ in range(ANONYMOUS_MAX + 1):
        answer = at(limited.url, address).call("OPTIONS", "/v1/actions/request")
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert_refused(at(limited.url, address).get("/v1/users/me/score"), 401, "INVALID_TOKEN")


def test_bad_tokens_count_as_anonymous(limited: Service, address: str) -> None:
    api = at(limited.url, address, "garbage")
    for _ in range(ANONYMOUS_MAX):
        assert_refused(api.get("/v1/users/me/history"), 401, "INVALID_TOKEN")
    assert api.get("/v1/users/me/history").status_code == 429


# -- streams ---------------------------------------------------------------------------


def open_from(url: str, address: str, player: Player | None = None, last_event_id: str | None = None) -> SseClient:
    headers = {"X-Forwarded-For": address}
    if player is not None:
        headers["Authorization"] = f"Bearer {player.access_token}"
    return SseClient(f"{url}/v1/leaderboard/stream", headers=headers, last_event_id=last_event_id)


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
        for _ in range(OPENINGS_MAX - STREAMS_PER_ADDRESS_MAX):
            error = json.loads(refusal().body)["error"]
            assert (error["code"], error["details"]) == (
                "TOO_MANY_STREAMS",
                {"limit": "streams", "per": "address", "maximum": STREAMS_PER_ADDRESS_MAX, "retryAfter": 10},
            )
        error = json.loads(refusal().body)["error"]
        assert (error["code"], error["details"]["limit"]) == ("RATE_LIMIT_EXCEEDED", "stream")
        with open_from(limited.url, next(_addresses)) as elsewhere:
            elsewhere.wait_for("leaderboard:initial")


def test_streams_of_players_count_for_the_account(limited: Service, player: Player, address: str) -> None:
    """They take none of the anonymous places of their address, nor of its openings."""
    with ExitStack() as open_ones:
        for _ in range(STREAMS_PER_ADDRESS_MAX):
            open_ones.enter_context(open_from(limited.url, address)).wait_for("leaderboard:initial")
        for _ in range(OPENINGS_OF_ONE_MAX):
            open_ones.enter_context(open_from(limited.url, address, player)).wait_for("leaderboard:initial")
        with pytest.raises(SseRefused) as refused:
            open_from(limited.url, address, player)
        assert json.loads(refused.value.body)["error"]["details"]["per"] == "account"
        neighbour = register_from(limited.url, next(_addresses))
        with open_from(limited.url, address, neighbour) as stream:
            stream.wait_for("leaderboard:initial")


def test_who_comes_back_with_a_recent_id_does_not_count_as_opening(limited: Service, address: str) -> None:
    with open_from(limited.url, address) as stream:
        stream.wait_for("leaderboard:initial")
        seen = stream.last_event_id
    for _ in range(OPENINGS_MAX + 1):
        with open_from(limited.url, address, last_event_id=seen) as stream:
            stream.wait_for("leaderboard:initial")
    # Made-up ids prove nothing.
    epoch, _, offset = seen.partition(":")
    invented = ["x", "0:0", f"{int(epoch) + 1}:{offset}", f"{epoch}:{int(offset) + 10**9}"]
    for number in range(OPENINGS_MAX - 1):
        with open_from(limited.url, address, last_event_id=invented[number % 4]) as stream:
            stream.wait_for("reset")
    with pytest.raises(SseRefused):
        open_from(limited.url, address, last_event_id=invented[0])
    with open_from(limited.url, address, last_event_id=seen) as stream:
        stream.wait_for("leaderboard:initial")


# -- addresses -------------------------------------------------------------------------


def test_only_the_trusted_proxys_own_word_counts(limited: Service, player: Player, address: str) -> None:
    """With one proxy the last entry is its own; all entries before it are the caller's invention."""
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
