"""Celery's messages delivered three times in another order, and lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from scoreboard.local import LocalServers
from tests.faults.conftest import StartTrial, end_at_once
from tests.faults.crowd import Crowd
from tests.faults.postman import Postman, read_from, sent_to
from tests.faults.scale import Scale
from tests.service import Service, rerouted_service

# Completions that are acknowledged meanwhile, short and long, and the seconds that they may take.
ACKNOWLEDGED = ((100, 60), (4_000, 300))


@dataclass
class Posted:
    """A service whose messages go through a postman's hands."""

    service: Service
    postman: Postman


@pytest.fixture(scope="module")
def posted(fault_servers: LocalServers) -> Iterator[Posted]:
    """Three worker processes, so that copies of a message are worked on at once."""
    with ExitStack() as closing:
        postmen: list[Postman] = []
        process_env: dict[str, dict[str, str]] = {}

        def reroute(env: Mapping[str, str]) -> dict[str, str]:
            # At work already while the service starts: without the first messages it does not get well.
            postmen.append(closing.enter_context(Postman(env["REDIS_URL"])))
            process_env["worker"] = {"CELERY_BROKER_URL": read_from(env["REDIS_URL"])}
            return {"CELERY_BROKER_URL": sent_to(env["REDIS_URL"])}

        environment = {"WORKER_CONCURRENCY": "3"}
        service = closing.enter_context(
            rerouted_service(fault_servers, environment, reroute=reroute, process_env=process_env)
        )
        closing.callback(end_at_once, service)
        closing.callback(postmen[0].end)
        yield Posted(service, postmen[0])


@pytest.fixture
def crowd(posted: Posted, scale: Scale) -> Iterator[Crowd]:
    with Crowd(posted.service, players=scale.pick(150, 400), rate=scale.pick(60, 120)) as crowd:
        yield crowd


def test_delivered_three_times(posted: Posted, crowd: Crowd, start_trial: StartTrial, scale: Scale) -> None:
    postman = posted.postman
    with start_trial(
        "messages delivered three times",
        "every Celery message comes three times, each copy up to 2 s late, so in another order; times: messages",
        "outcomes come up to 2 s later",
    ) as trial:
        taken, delivered = postman.taken, postman.delivered
        postman.copies, postman.late_s = 3, scale.pick(1.0, 2.0)
        crowd.wait_for_answers(*ACKNOWLEDGED[scale.is_long])
        trial.hit(postman.taken - taken)
        crowd.pause()
        postman.empty_the_bag()
        assert postman.delivered - delivered > 2 * trial.times
        trial.count(posted.service, crowd)


def test_a_tenth_lost(posted: Posted, crowd: Crowd, start_trial: StartTrial, scale: Scale) -> None:
    postman = posted.postman
    with start_trial(
        "messages lost",
        "every tenth Celery message, of any kind, never comes; times: messages lost",
        "what was lost is settled by the sweep, some 5 s later",
    ) as trial:
        lost = postman.lost
        postman.lose_each = 10
        crowd.wait_for_answers(*ACKNOWLEDGED[scale.is_long])
        postman.empty_the_bag()
        trial.hit(postman.lost - lost)
        trial.count(posted.service, crowd)
