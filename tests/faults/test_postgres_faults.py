"""PostgreSQL's backends killed, PostgreSQL restarted and frozen, the reply to COMMIT lost, while clients work."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest
import sqlalchemy as sa

from scoreboard.local import LocalServers
from tests.faults.conftest import StartTrial, end_at_once
from tests.faults.crowd import Crowd
from tests.faults.scale import Scale
from tests.faults.tcp_proxy import TcpProxy
from tests.faults.trial import Trial
from tests.functional.client import Api, board, eventually
from tests.service import Service, rerouted_service

# Acknowledgements before and after each fault: a second's work or two.
SOME = 20
# What an answer may take while PostgreSQL is frozen (docs/operations.md), and a slow machine.
ANSWER_BOUND_S = 25.0
# An orderly shutdown is not meant here: PostgreSQL is gone within a moment.
GONE_S = 20.0
ACCEPT, COMMIT = b"EXECUTE accept_actions", b"COMMIT"


@dataclass
class Setting:
    """A service whose web and worker processes reach PostgreSQL each through a proxy; the count asks past them."""

    service: Service
    web: TcpProxy
    worker: TcpProxy
    # A connection of the test's own.
    admin: sa.Engine

    def postgres_is_gone(self) -> bool:
        servers = self.service.database_servers
        assert servers is not None
        return not servers.postgres.is_running

    def terminate_some(self) -> int:
        """End any one backend, whatever it does; returns how many were ended."""
        with self.admin.connect() as connection:
            return int(connection.execute(_TERMINATE).scalar_one())


_TERMINATE = sa.text(
    """
    SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'scoreboard-w%'
        ORDER BY (state = 'active') DESC, random() LIMIT 1
    ) AS unlucky
    """
)


@pytest.fixture(scope="module")
def setting(fault_servers: LocalServers) -> Iterator[Setting]:
    with ExitStack() as closing:
        proxies: list[TcpProxy] = []
        worker_env: dict[str, str] = {}

        def reroute(direct: Mapping[str, str]) -> Mapping[str, str]:
            url = direct["DATABASE_URL"]
            proxies.extend(closing.enter_context(TcpProxy(url)) for _ in range(2))
            worker_env["DATABASE_URL"] = proxies[1].url_for(url)
            return {"DATABASE_URL": proxies[0].url_for(url)}

        service = closing.enter_context(
            rerouted_service(fault_servers, {}, reroute=reroute, process_env={"worker": worker_env})
        )
        closing.callback(end_at_once, service)
        url = service.direct_env["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        closing.callback(admin.dispose)
        yield Setting(service, proxies[0], proxies[1], admin)


def throw(trial: Trial, crowd: Crowd, service: Service, fault: Callable[[], object], times: int) -> None:
    """The fault, so many times, each in the middle of work; then the count."""
    for _ in range(times):
        crowd.wait_for_answers(SOME)
        fault()
        trial.hit()
    crowd.wait_for_answers(SOME)
    trial.count(service, crowd)


def test_backends_killed(setting: Setting, start_trial: StartTrial, scale: Scale) -> None:
    with (
        start_trial(
            "PostgreSQL's backends killed",
            "pg_terminate_backend of a connection of web or worker, those at work first",
            "requests on that connection are answered 503 and sent again",
        ) as trial,
        Crowd(setting.service) as crowd,
    ):
        for _ in range(scale.pick(15, 300)):
            crowd.wait_for_answers(2)
            if setting.terminate_some():
                trial.hit()
        assert trial.times > scale.pick(8, 200)
        trial.count(setting.service, crowd)


def test_immediate_restart(setting: Setting, start_trial: StartTrial, scale: Scale) -> None:
    servers = setting.service.database_servers
    assert servers is not None

    def fault() -> None:
        servers.postgres.signal(signal.SIGQUIT)
        eventually(setting.postgres_is_gone, bool, GONE_S)
        servers.postgres.start()

    with (
        start_trial(
            "PostgreSQL restarted at once",
            "SIGQUIT of the postmaster, as `pg_ctl restart -m immediate` sends it; recovery from the log",
            "503 with Retry-After; anonymous reads of the board go on",
        ) as trial,
        Crowd(setting.service) as crowd,
    ):
        throw(trial, crowd, setting.service, fault, scale.pick(2, 20))


def test_frozen(setting: Setting, start_trial: StartTrial, scale: Scale) -> None:
    """Connections stay open, keepalives are answered by the kernel, and nothing else comes."""
    servers = setting.service.database_servers
    assert servers is not None
    frozen_for_s = scale.pick(3.0, 30.0)
    with (
        start_trial(
            "PostgreSQL frozen",
            f"SIGSTOP of all its processes for {scale.pick('seconds', '30 s')}",
            "no request waits for longer than 20 s, most get 503 after 3; anonymous reads of the board go on",
        ) as trial,
        Crowd(setting.service) as crowd,
    ):
        crowd.wait_for_answers(SOME)
        servers.postgres.freeze()
        try:
            thaw_at = time.monotonic() + frozen_for_s
            while True:
                assert board(Api(setting.service.url), limit=10)
                assert_sent_away(setting.service, within_s=ANSWER_BOUND_S)
                if time.monotonic() > thaw_at:
                    break
        finally:
            servers.postgres.thaw()
        trial.hit()
        crowd.wait_for_answers(SOME)
        trial.count(setting.service, crowd)


def assert_sent_away(service: Service, within_s: float) -> None:
    body = {"username": "nobody", "password": "a long enough pass phrase"}
    answer = httpx.post(f"{service.url}/v1/auth/login", json=body, timeout=within_s)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("is_silent", [False, True], ids=["broken", "silent"])
def test_the_reply_to_an_acceptance_is_lost(
    setting: Setting, start_trial: StartTrial, scale: Scale, is_silent: bool
) -> None:
    """The action is accepted, and web doesn't know: nobody is told 202, and the next try of the client is."""
    if is_silent and not scale.is_long:
        pytest.skip("web waits 10 s for an answer")
    how = "nothing comes any more" if is_silent else "the connection breaks"
    with (
        start_trial(
            f"reply to web's commit lost, {how}",
            f"the acceptance is one statement that commits; its answer never arrives, {how}",
            "503, or no answer in time; the same completion sent again gets 202",
        ) as trial,
        Crowd(setting.service) as crowd,
    ):
        lose(trial, crowd, setting.web, ACCEPT, scale.pick(5, 6 if is_silent else 20), is_silent=is_silent)
        trial.count(setting.service, crowd)


@pytest.mark.parametrize("is_silent", [False, True], ids=["broken", "silent"])
def test_the_reply_to_the_settlements_commit_is_lost(
    setting: Setting, start_trial: StartTrial, scale: Scale, is_silent: bool
) -> None:
    """The scores are changed, and the worker doesn't know: it must not change them again, and Redis must hear of it."""
    if is_silent and not scale.is_long:
        pytest.skip("a worker waits 17 s for an answer")
    how = "nothing comes any more" if is_silent else "the connection breaks"
    with (
        start_trial(
            f"reply to the worker's COMMIT lost, {how}",
            f"a settlement is committed, the answer to COMMIT never arrives, {how}",
            "the outcome is told by the sweep, some seconds later",
        ) as trial,
        Crowd(setting.service) as crowd,
    ):
        lose(trial, crowd, setting.worker, COMMIT, scale.pick(4, 6 if is_silent else 20), is_silent=is_silent)
        trial.count(setting.service, crowd)


def lose(trial: Trial, crowd: Crowd, proxy: TcpProxy, match: bytes, times: int, *, is_silent: bool) -> None:
    """Lose the answer to a question with these bytes, so many times, while the crowd goes on.

    Who waits in silence is left alone with it: nothing but their own clock ends it.
    """
    for _ in range(times):
        crowd.wait_for_answers(SOME)
        lost = proxy.lose_answer(match, is_silent=is_silent)
        lost.wait(timeout_s=60)
        trial.hit()
    crowd.wait_for_answers(SOME)
