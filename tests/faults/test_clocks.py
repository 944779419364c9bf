"""Clocks minutes apart: of web and worker, and of one web and another behind the same balancer."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from tests.faults.attempts import Log
from tests.faults.clocks import shifted
from tests.faults.conftest import StartTrial
from tests.faults.crowd import Crowd
from tests.faults.driver import Driver
from tests.faults.instances import further_instances
from tests.faults.scale import Scale
from tests.faults.trial import Trial
from tests.functional.client import (
    Api,
    Player,
    assert_refused,
    completion,
    data_of,
    eventually,
    in_parallel,
    open_stream,
    register,
)
from tests.service import Service

APART_S = 300.0
# Of access tokens and of actions on the two webs: time for some requests on busy cores, and not long to wait for.
TTL_S = 6
# From the end of an access to the end of its streams, and what busy cores add.
NOTICED_S = 10.0
# A worker sweeps every two seconds and is missed after fifteen.
MISSED_S = 40.0


@dataclass(frozen=True)
class Webs:
    """The same service at two addresses whose processes are ten minutes apart, with a worker at one end."""

    ahead: Service
    behind: Service

    @property
    def both(self) -> tuple[Service, Service]:
        return self.ahead, self.behind

    @property
    def crossings(self) -> tuple[tuple[Service, Service], tuple[Service, Service]]:
        return (self.ahead, self.behind), (self.behind, self.ahead)


@contextmanager
def apart(service: Service, driver: Driver, worker_shift_s: float) -> Iterator[Webs]:
    """One web ahead, one behind, and the worker; all have their own clocks again at the end."""
    lives = {"WEB_CONCURRENCY": "1", "JWT_ACCESS_TTL_S": str(TTL_S), "ACTION_TOKEN_TTL_S": str(TTL_S)}
    shifts = ({**lives, **shifted(APART_S)}, {**lives, **shifted(-APART_S)})
    service.process_env = {"worker": shifted(worker_shift_s)}
    try:
        driver.kill_family("worker")
        with further_instances(service, *shifts) as (ahead, behind):
            yield Webs(replace(service, url=ahead.url), replace(service, url=behind.url))
    finally:
        service.process_env = {}
        driver.kill_family("worker")
        service.wait_until_up()


def test_minutes_apart(fault_service: Service, driver: Driver, start_trial: StartTrial, scale: Scale) -> None:
    for worker_shift_s in scale.pick((-APART_S,), (-APART_S, APART_S)):
        word = "ahead" if worker_shift_s > 0 else "behind"
        with (
            start_trial(
                f"clocks minutes apart, the worker {word}",
                f"a worker five minutes {word}, a web five minutes ahead and another five minutes behind",
                "what one web hands out is good at the other, for as long as the database's clock says; health is ok",
            ) as trial,
            apart(fault_service, driver, worker_shift_s) as webs,
        ):
            play(webs, trial, scale)
            if scale.is_long:
                for web in webs.both:
                    miss_a_worker(web, driver)


def play(webs: Webs, trial: Trial, scale: Scale) -> None:
    for web in webs.both:
        with Crowd(web, players=60, clients=4, rate=30) as crowd:
            crowd.wait_for_answers(scale.pick(20, 1_000), 120)
            trial.hit()
            # Health as this web tells it is part of what is waited for.
            trial.count(web, crowd)
    log = Log()
    for here, there in webs.crossings:
        carry_over(log, here, there)
    trial.hit(2)
    trial.count(webs.ahead, log)
    in_parallel([partial(end_in_time, here, there) for here, there in webs.crossings])


def carry_over(log: Log, here: Service, there: Service) -> None:
    """What one web hands out the other takes: access and refresh tokens, actions, tickets."""
    player = register(here.url)
    log.add_users([player.id])
    action = player.request_action()
    attempt = log.attempt(action["actionId"], player.id)
    elsewhere = Player(there.url, player.id, player.username, "", player.access_token, player.refresh_token)
    # It has minutes by the other's clock, or is long over; the database's says that it has just begun.
    assert elsewhere.action(action["actionId"])["status"] == "issued"
    log.sent(attempt)
    answer = elsewhere.complete(action)
    assert data_of(answer)["status"] == "applied"
    log.answered(attempt, answer.status_code, answer.json())
    ticket = data_of(player.api.post("/v1/stream/ticket"))["ticket"]
    with open_stream(there.url, params={"ticket": ticket}) as stream:
        stream.wait_for("leaderboard:initial")
    pair = data_of(Api(there.url).post("/v1/auth/refresh", {"refreshToken": player.refresh_token}))
    assert data_of(Api(here.url, pair["accessToken"]).get("/v1/users/me/score"))["score"] == 1


def end_in_time(here: Service, there: Service) -> None:
    """Tokens, streams and actions end at both webs when the database's clock says so."""
    began_at = time.monotonic()
    player = register(here.url)
    assert lives_for(player.access_token) == TTL_S
    action = player.request_action()
    body = completion(action)
    with player.stream() as mine, open_stream(there.url, player.access_token) as theirs:
        for stream in (mine, theirs):
            stream.wait_ended(TTL_S + NOTICED_S)
        assert time.monotonic() - began_at >= TTL_S - 1, "ended before its time"
    again = data_of(Api(there.url).post("/v1/auth/refresh", {"refreshToken": player.refresh_token}))["accessToken"]
    for web in (here, there):
        assert_refused(Api(web.url, player.access_token).get("/v1/users/me/score"), 401, "TOKEN_EXPIRED")
        read = partial(Api(web.url, again).get, f"/v1/actions/{action['actionId']}")
        told = eventually(read, lambda answer: data_of(answer)["status"] != "issued", TTL_S)
        assert data_of(told)["status"] == "expired"
        assert_refused(Api(web.url, again).post("/v1/actions/complete", body), 400, "ACTION_TOKEN_EXPIRED")


def lives_for(access_token: str) -> int:
    """Seconds between its moments, as the token itself has them."""
    body = access_token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return int(claims["exp"]) - int(claims["iat"])


def miss_a_worker(web: Service, driver: Driver) -> None:
    """A worker that is gone is missed, however far its clock was ahead."""

    def workers() -> str:
        return str(Api(web.url).get("/health/detailed").json()["data"]["parts"]["workers"]["status"])

    assert workers() == "ok"
    with driver.frozen("worker"):
        eventually(workers, lambda status: status == "down", MISSED_S)
    eventually(workers, lambda status: status == "ok", MISSED_S)
