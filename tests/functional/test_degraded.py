"""What each part does while another is away, on real processes: every line of "While X is down" in operations.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

import httpx
import pytest
import redis

from scoreboard.live.queue.app import QUEUE, QUEUE_MAX_MESSAGES
from scoreboard.local import LocalServers
from tests.functional.client import (
    PASSWORD,
    Admin,
    Api,
    Json,
    Player,
    board,
    completion,
    create_staff,
    data_of,
    eventually,
    metric,
    open_stream,
    register,
    registration,
)
from tests.functional.sse import SseClient
from tests.service import Service, open_folder, running_service

WEB_PROCESSES = 2
LOGINS, COMPLETIONS = 6, 8
# A restart, a sweep, a rebuild, and other tests on the same cores.
WELL_S = 40.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalServers]:
    """One that only these tests use, and stop."""
    with open_folder() as folder, LocalServers(folder, with_valkey=False) as servers:
        yield servers


@pytest.fixture(scope="module")
def service(postgres: LocalServers) -> Iterator[Service]:
    limits = {
        "RATE_LIMIT_LOGIN": f"{LOGINS}/15 minutes",
        "RATE_LIMIT_COMPLETE": f"{COMPLETIONS}/15 minutes",
        "WEB_CONCURRENCY": str(WEB_PROCESSES),
        "HEARTBEAT_S": "1",
    }
    with running_service(postgres, **limits) as service:
        yield service


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


def degraded(service: Service, part: str, what: str) -> float:
    return metric(service.url, "scoreboard_degraded_total", part=part, what=what)


def health_of(service: Service) -> Json:
    answer = httpx.get(f"{service.url}/health/detailed", timeout=30)
    told = answer.json()
    health: Json = told["data"] if told["success"] else told["error"]["details"]
    assert answer.status_code == (503 if health["status"] == "down" else 200)
    assert told["success"] == (answer.status_code == 200)
    return health


def assert_alive(stream: SseClient) -> None:
    """Still open: something comes that was not there before."""
    stream.wait_for("heartbeat", timeout=30, after=len(stream.events))


# -- without Redis ---------------------------------------------------------------------------------------------------


@dataclass
class Outage:
    """Redis is down; the player's data from before."""

    player: Player
    shown: Json
    fallbacks: float


def shown_to(player: Player) -> Json:
    around = data_of(player.api.get("/v1/leaderboard/around/me"))["leaderboard"]
    return {"board": board(Api(player.url)), "around": around, "score": player.score()}


class TestWithoutRedis:
    """One outage for all of these: nothing in them needs its end."""

    @pytest.fixture(scope="class")
    def outage(self, service: Service) -> Iterator[Outage]:
        player = register(service.url)
        player.score_point()
        shown, fallbacks = shown_to(player), metric(service.url, "scoreboard_board_fallbacks_total")
        service.servers.valkey.kill()
        yield Outage(player, shown, fallbacks)
        service.servers.valkey.start()
        service.wait_until_up()

    def test_reads_come_from_postgres(self, service: Service, outage: Outage) -> None:
        assert shown_to(outage.player) == outage.shown
        assert metric(service.url, "scoreboard_board_fallbacks_total") >= outage.fallbacks + 3

    def test_health_is_degraded_and_not_down(self, service: Service, outage: Outage) -> None:
        health = health_of(service)
        assert (health["status"], health["parts"]["redis"]["status"]) == ("degraded", "down")
        assert metric(service.url, "scoreboard_part_up", part="redis") == 0
        assert httpx.get(f"{service.url}/health", timeout=30).status_code == 200

    @pytest.mark.parametrize(
        ("allowed", "path"),
        [(LOGINS, "/v1/auth/login"), (COMPLETIONS, "/v1/actions/complete")],
        ids=["login", "complete"],
    )
    def test_limits_are_divided_by_the_processes(
        self, service: Service, outage: Outage, player: Player, allowed: int, path: str
    ) -> None:
        """Every process counts for itself, to its share: together never more than the limit, and never without one."""
        counted = metric(service.url, "scoreboard_limit_fallbacks_total")
        bad_login = {"username": player.username, "password": "not the password"}
        body = bad_login if path.endswith("login") else {"actionId": "none"}
        answers = [player.api.call("POST", path, json=body) for _ in range(3 * allowed)]
        refused = [answer for answer in answers if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS]
        assert allowed // WEB_PROCESSES <= len(answers) - len(refused) <= allowed
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert metric(service.url, "scoreboard_limit_fallbacks_total") >= counted + len(answers)


def test_without_redis_writes_are_accepted_and_settled_later(service: Service, player: Player) -> None:
    waiting = player.request_action()
    lost = degraded(service, "broker", "doorbell")
    places = degraded(service, "redis", "stream_place")
    with player.stream() as early:
        early.wait_for("leaderboard:initial")
        service.servers.valkey.kill()
        try:
            accepted = [data_of(player.complete(waiting, None), 202), data_of(player.complete(waiting, 1), 202)]
            assert {each["status"] for each in accepted} == {"accepted"}
            later = player.request_action()
            data_of(player.complete(later, None), 202)
            newcomer = register(service.url)
            with open_stream(service.url) as late:
                late.wait_for("leaderboard:initial")
            eventually(lambda: degraded(service, "broker", "doorbell"), lambda count: count >= lost + 2, WELL_S)
            assert degraded(service, "redis", "stream_place") == places + 1
            assert_alive(early)
            assert player.action(waiting["actionId"])["status"] == "accepted"
        finally:
            service.servers.valkey.start()
        for action in (waiting, later):
            done = eventually(lambda: player.action(action["actionId"]), lambda each: each["settledAt"], WELL_S)  # noqa: B023
            assert done["status"] == "applied"
        # Told by an event, or by a reset and the whole board; either way what the stream shows in the end is right.
        early.wait_for(lambda event: shows(event.json(), player, 2), WELL_S)
    assert player.score()["score"] == 2
    # Redis has taken over again, and knows who came meanwhile.
    eventually(lambda: reads_without_fallback(service, newcomer), bool, WELL_S)
    service.wait_until_up()


def reads_without_fallback(service: Service, player: Player) -> bool:
    before = metric(service.url, "scoreboard_board_fallbacks_total")
    assert any(row["userId"] == player.id for row in shown_to(player)["around"])
    return metric(service.url, "scoreboard_board_fallbacks_total") == before


def shows(event: Json, player: Player, score: int) -> bool:
    rows = event.get("leaderboard") or []
    return any((row["userId"], row["score"]) == (player.id, score) for row in rows)


# -- without PostgreSQL ----------------------------------------------------------------------------------------------


def calls_that_need_postgres(player: Player, action: Json, admin: Admin) -> dict[str, Callable[[], httpx.Response]]:
    url, api = player.url, player.api
    return {
        "register": lambda: Api(url).post("/v1/auth/register", registration()),
        "login": lambda: Api(url).post("/v1/auth/login", {"username": player.username, "password": PASSWORD}),
        "refresh": lambda: Api(url).post("/v1/auth/refresh", {"refreshToken": player.refresh_token}),
        "logout": lambda: api.post("/v1/auth/logout"),
        "request": lambda: api.post("/v1/actions/request", {"actionType": "SOLVE_PROBLEM", "metadata": {}}),
        "complete": lambda: player.send(completion(action), None),
        "complete and wait": lambda: player.send(completion(action), 10),
        "action": lambda: api.get(f"/v1/actions/{action['actionId']}"),
        "score": lambda: api.get("/v1/users/me/score"),
        "history": lambda: api.get("/v1/users/me/history"),
        "ticket": lambda: api.post("/v1/stream/ticket"),
        "stream of a player": lambda: api.get("/v1/leaderboard/stream"),
        "admin": lambda: admin.api.get("/v1/admin/stats"),
    }


def test_without_postgres_everything_is_sent_away_and_streams_stay(
    service: Service, postgres: LocalServers, player: Player, admin: Admin
) -> None:
    action = player.request_action()
    refused, unchecked = degraded(service, "postgres", "request"), degraded(service, "postgres", "session_check")
    with player.stream() as mine, open_stream(service.url) as anybodys:
        for stream in (mine, anybodys):
            stream.wait_for("leaderboard:initial")
        postgres.postgres.kill()
        try:
            calls = calls_that_need_postgres(player, action, admin)
            for name, call in calls.items():
                answer = call()
                assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE, f"{name}: {answer.text}"
                assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE", name
                assert int(answer.headers["Retry-After"]) >= 1, name
            # Redis knows the board, and nobody has to be known to see it.
            assert any(row["userId"] == player.id for row in board(Api(service.url)))
            with open_stream(service.url) as late:
                late.wait_for("leaderboard:initial")
            assert httpx.get(f"{service.url}/health", timeout=30).status_code == 503
            assert health_of(service)["status"] == "down"
            assert metric(service.url, "scoreboard_part_up", part="postgres") == 0
            assert degraded(service, "postgres", "request") >= refused + len(calls)
            eventually(lambda: degraded(service, "postgres", "session_check"), lambda count: count > unchecked, WELL_S)
            for stream in (mine, anybodys):
                assert_alive(stream)
        finally:
            postgres.postgres.start()
        service.wait_until_up()
        # Nothing of all that was done: the token still is good, for one point.
        assert data_of(player.complete(action))["newScore"] == 1
        mine.wait_for("score:update", WELL_S)
        anybodys.wait_for(lambda event: shows(event.json(), player, 1), WELL_S)
    eventually(lambda: degraded(service, "postgres", "sweep") + degraded(service, "postgres", "settle"), bool, WELL_S)


# -- without workers -------------------------------------------------------------------------------------------------


def test_without_workers_completions_are_accepted_and_health_says_so(service: Service, player: Player) -> None:
    with redis.Redis.from_url(service.redis_url) as client, service.frozen_worker():
        # Emptied, Redis doesn't say that a worker was there some seconds ago; nobody refills the board either.
        client.flushall()
        action = player.request_action()
        for wait_s in (None, 1):
            assert data_of(player.complete(action, wait_s), 202)["status"] == "accepted"
        assert player.action(action["actionId"])["status"] == "accepted"
        health = health_of(service)
        assert (health["status"], health["parts"]["workers"]["status"]) == ("degraded", "down")
        assert metric(service.url, "scoreboard_part_up", part="workers") == 0
        assert metric(service.url, "scoreboard_unsettled_actions") >= 1
        assert any(row["userId"] == player.id for row in board(Api(service.url)))
        fill(client)
        skipped = degraded(service, "workers", "schedule")
        eventually(lambda: degraded(service, "workers", "schedule"), lambda count: count > skipped, WELL_S)
        # All look before they ring: it is over by no more than those who looked at one moment.
        assert client.llen(QUEUE) <= QUEUE_MAX_MESSAGES + WEB_PROCESSES + 1
        client.delete(QUEUE)
    done = eventually(lambda: player.action(action["actionId"]), lambda each: each["settledAt"], WELL_S)
    assert (done["status"], player.score()["score"]) == ("applied", 1)
    service.wait_until_up()


def fill(client: redis.Redis) -> None:
    """As many messages as an hour without workers leaves; nobody is going to read these."""
    missing = QUEUE_MAX_MESSAGES - client.llen(QUEUE)
    client.rpush(QUEUE, *["{}"] * missing)
