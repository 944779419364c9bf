"""Processes killed and frozen at random while clients work."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.faults.conftest import StartTrial
from tests.faults.crowd import Crowd
from tests.faults.driver import Driver
from tests.faults.scale import Scale
from tests.functional.client import eventually
from tests.service import Service

# gunicorn gives a silent worker 30 s, then asks it to end, then kills it.
_REPLACED_S = 60.0


def test_killed_at_random(fault_service: Service, driver: Driver, start_trial: StartTrial, scale: Scale) -> None:
    """Every kind of process, in any order, at any moment of its work."""
    kills: list[Callable[[], None]] = [
        lambda: driver.kill_child("worker"),
        lambda: driver.kill_main("worker"),
        lambda: driver.kill_child("web"),
        lambda: driver.kill_main("web"),
        lambda: driver.kill_family("worker"),
        lambda: driver.kill_family("web"),
    ]
    if scale.is_long:
        # What the system kills first where memory is short, and what costs the least to start again.
        kills += [lambda: driver.kill_child("worker")] * 3 + [lambda: driver.kill_child("web")]
    with (
        start_trial(
            "any process killed at random",
            "SIGKILL of gunicorn's master, one of its workers, Celery's main process, its child, or a whole family",
            "other processes answer; broken requests are sent again",
        ) as trial,
        Crowd(fault_service) as crowd,
    ):
        for _ in range(scale.pick(1, 17)):
            random.shuffle(kills)
            crowd.resume()
            for kill in kills:
                crowd.wait_for_answers(random.randint(5, 40))
                kill()
                trial.hit()
            crowd.wait_for_answers(20)
            trial.count(fault_service, crowd)


def test_frozen(fault_service: Service, driver: Driver, start_trial: StartTrial, scale: Scale) -> None:
    """Worse than death for those who wait: nothing breaks, nothing answers, and then it goes on as if nothing was."""
    with (
        start_trial(
            "workers frozen",
            f"SIGSTOP of Celery's processes for {scale.pick('seconds', '40 s, longer than a transaction may idle')}",
            "202; outcomes come afterwards; health is degraded after 15 s",
        ) as trial,
        Crowd(fault_service) as crowd,
    ):
        crowd.wait_for_answers(20)
        with driver.frozen("worker"):
            frozen_until = time.monotonic() + scale.pick(2.0, 40.0)
            while time.monotonic() < frozen_until:
                crowd.wait_for_answers(10)
        trial.hit()
        trial.count(fault_service, crowd)


def test_web_process_frozen(fault_service: Service, driver: Driver, start_trial: StartTrial, scale: Scale) -> None:
    if not scale.is_long:
        pytest.skip("gunicorn needs half a minute to notice")
    with (
        start_trial(
            "a web process frozen",
            "SIGSTOP of one of gunicorn's two workers, until gunicorn replaces it",
            "every second connection gets no answer, for half a minute",
        ) as trial,
        Crowd(fault_service) as crowd,
    ):
        crowd.wait_for_answers(20)
        with driver.frozen_child("web") as frozen:
            eventually(frozen.is_running, lambda is_there: not is_there, _REPLACED_S)
        trial.hit()
        crowd.wait_for_answers(20)
        trial.count(fault_service, crowd)
