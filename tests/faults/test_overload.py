"""Three times the load that it can take: the excess is told to come back, the rest is quick and settled."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

import httpx
import psutil

from scoreboard.local.process import family
from tests.faults.attempts import Json, Log
from tests.faults.cast import Account, cast_of
from tests.faults.conftest import StartTrial
from tests.faults.instances import further_instances
from tests.faults.scale import Scale
from tests.faults.storm import Reply, Storm
from tests.faults.volley import Shot
from tests.functional.client import QUICK, completion
from tests.service import Service

TIMES = 3
# Each player's share: nine within ten seconds are a burst, held for review.
EACH = 8
# A third request a process has to refuse: what one can take is then soon found, and soon tripled.
AT_ONCE = 2
# Clients that wait in line at most; the service keeps as many connections without noticing.
CONNECTIONS = 400
# By Little's law an answer takes what is under way divided by what is done in a second: far under a tenth of one here.
# The rest is for cores that the clients, PostgreSQL and other tests want as well.
ACCEPTED_WITHIN_S = 2.0
# Pools, arenas and 400 connections of some 20 KB each; a queue of all that came would be many times that.
GROWN_AT_MOST = 40_000_000
LOOK_S = 0.2


@dataclass(frozen=True)
class Ready:
    """An action that waits to be completed."""

    account: Account
    action: Json

    def shot(self) -> bytes:
        return Shot("/v1/actions/complete", self.account.token, completion(self.action)).encode()


class Watch:
    """Looks at memory and health while the storm goes on."""

    def __init__(self, url: str, pid: int) -> None:
        self._url, self._members = url, family(pid)
        self._http = httpx.Client(timeout=10)
        self._due_at = 0.0
        self.most = self._rss()
        self.least = self.most
        self.looks = 0

    def __call__(self) -> None:
        if time.monotonic() < self._due_at:
            return
        self.most = max(self.most, self._rss())
        # A balancer that is told no would take the process away from under its accepted requests.
        assert self._http.get(f"{self._url}/health").status_code == 200
        self.looks += 1
        self._due_at = time.monotonic() + LOOK_S

    def _rss(self) -> int:
        return sum(each.memory_info().rss for each in self._members if psutil.pid_exists(each.pid))


def issue(service: Service, count: int) -> list[Ready]:
    """So many actions, by the service's other web processes, which have no storm to weather."""
    accounts = cast_of(service).take(-(-count // EACH))
    turns = list(itertools.islice(itertools.cycle(accounts), count))
    body = {"actionType": QUICK, "metadata": {}}
    replies = Storm(service.url, 8).run([Shot("/v1/actions/request", each.token, body).encode() for each in turns])
    assert {reply.status for reply in replies} == {200}
    return [Ready(account, json.loads(reply.body)["data"]) for account, reply in zip(turns, replies, strict=True)]


def complete(
    log: Log,
    url: str,
    ready: Sequence[Ready],
    *,
    rate: float | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> list[Reply]:
    """Complete each once, at this rate, or as quickly as they are answered; nobody comes back."""
    attempts = [log.attempt(each.action["actionId"], each.account.id, each.account.token) for each in ready]
    for attempt in attempts:
        log.sent(attempt)
    storm = Storm(url, CONNECTIONS if rate else 2 * AT_ONCE)
    replies = storm.run([each.shot() for each in ready], rate=rate, meanwhile=meanwhile)
    for attempt, reply in zip(attempts, replies, strict=True):
        if not reply.status:
            log.unanswered(attempt)
            continue
        log.answered(attempt, reply.status, json.loads(reply.body))
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            # Told to come back before anything was done: it must not be found anywhere.
            attempt.refused = reply.status
    return replies


def test_three_times_the_load(fault_service: Service, start_trial: StartTrial, scale: Scale) -> None:
    log = Log()
    settings = {"WEB_CONCURRENCY": "1", "MAX_REQUESTS_AT_ONCE": str(AT_ONCE)}
    with (
        start_trial(
            "three times the load it can take",
            "completions at three times the rate of what one web process answers in a closed loop, waiting for nobody",
            "503 with Retry-After for the excess, 202 within two seconds for the rest; memory stays, /health answers",
        ) as trial,
        further_instances(fault_service, settings) as (small,),
    ):
        first = issue(fault_service, scale.pick(400, 2_000))
        began_at = time.monotonic()
        answered = Counter(reply.status for reply in complete(log, small.url, first))
        rate = answered[202] / (time.monotonic() - began_at)
        assert rate > 0, answered
        for times in (TIMES, 2 * TIMES, 4 * TIMES):
            stormy = issue(fault_service, int(times * rate * scale.pick(2, 20)))
            watch = Watch(small.url, small.supervisor.pids()["web"])
            replies = complete(log, small.url, stormy, rate=times * rate, meanwhile=watch)
            # On a machine that was busy with other things a moment ago it can take more than it did then.
            if any(reply.status == HTTPStatus.SERVICE_UNAVAILABLE for reply in replies):
                break
        trial.hit()
        assert_weathered(replies, watch)
        trial.count(replace(fault_service, url=small.url), log)


def assert_weathered(replies: Sequence[Reply], watch: Watch) -> None:
    by_status = Counter(reply.status for reply in replies)
    assert set(by_status) == {202, 503}, by_status
    for reply in replies:
        if reply.status == 503:
            assert int(reply.headers[b"retry-after"]) >= 1
            assert json.loads(reply.body)["error"]["code"] == "SERVICE_UNAVAILABLE"
    accepted = sorted(reply.took_s for reply in replies if reply.status == 202)
    assert accepted[int(len(accepted) * 0.99)] < ACCEPTED_WITHIN_S, accepted[-5:]
    assert watch.looks >= 3
    assert watch.most - watch.least < GROWN_AT_MOST
