"""Redis killed, emptied, frozen, and replaced by an older copy of itself, while clients work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest
import redis

from scoreboard.live.queue.app import COMPARE_BOARD, make_celery
from scoreboard.local import LocalServers
from tests.faults.conftest import StartTrial, end_at_once
from tests.faults.crowd import Crowd
from tests.faults.scale import Scale
from tests.faults.tcp_proxy import TcpProxy
from tests.faults.trial import Trial
from tests.functional.client import Api, board, eventually, metric
from tests.service import Service, open_folder, rerouted_service

# Acknowledgements before and after each fault: a second's work or two.
SOME = 20
# Five round trips that each get no answer within a second, of connecting and asking, and a slow machine.
READ_BOUND_S = 12.0
BOARD_KEYS = ("standings", "players", "version", "versions", "whole")


@pytest.fixture(scope="module")
def proxies() -> list[TcpProxy]:
    """Holds the proxy between the service and its Redis, once there is one."""
    return []


@pytest.fixture(scope="module")
def service(fault_servers: LocalServers, proxies: list[TcpProxy]) -> Iterator[Service]:
    """A service that reaches its Redis through a proxy; the count asks past it."""
    with ExitStack() as closing:

        def reroute(direct: Mapping[str, str]) -> Mapping[str, str]:
            proxies.append(closing.enter_context(TcpProxy(direct["REDIS_URL"])))
            return {"REDIS_URL": proxies[0].url_for(direct["REDIS_URL"])}

        service = closing.enter_context(rerouted_service(fault_servers, {}, reroute=reroute))
        closing.callback(end_at_once, service)
        yield service


@pytest.fixture
def valkey(service: Service) -> Iterator[redis.Redis]:
    """The service's Redis, asked directly."""
    with redis.Redis.from_url(service.direct_env["REDIS_URL"]) as client:
        yield client


def throw(trial: Trial, crowd: Crowd, service: Service, fault: Callable[[], object], times: int) -> None:
    """The fault, so many times, each in the middle of work; then the count."""
    for _ in range(times):
        crowd.wait_for_answers(SOME)
        fault()
        trial.hit()
        crowd.wait_for_answers(SOME)
    trial.count(service, crowd)


def test_killed_and_empty(service: Service, start_trial: StartTrial, scale: Scale) -> None:
    def fault() -> None:
        service.servers.valkey.kill()
        service.servers.valkey.start()

    with (
        start_trial(
            "Redis killed, comes back empty",
            "SIGKILL of Valkey, which keeps nothing on disk, and started again at once",
            "completions are accepted; the board comes from PostgreSQL",
        ) as trial,
        Crowd(service) as crowd,
    ):
        throw(trial, crowd, service, fault, scale.pick(1, 20))


def test_emptied_under_load(service: Service, valkey: redis.Redis, start_trial: StartTrial, scale: Scale) -> None:
    with (
        start_trial(
            "Redis emptied under load",
            "FLUSHALL: standings, limits, event stream and the broker's queue are gone",
            "completions are accepted; the board comes from PostgreSQL until it is filled again",
        ) as trial,
        Crowd(service) as crowd,
    ):
        throw(trial, crowd, service, valkey.flushall, scale.pick(4, 60))


def test_frozen(service: Service, start_trial: StartTrial, scale: Scale) -> None:
    """Connections stay open and nothing answers: the worst that a server can do to its clients."""
    frozen_for_s = scale.pick(3.0, 30.0)
    fallbacks = metric(service.url, "scoreboard_board_fallbacks_total")
    limits = metric(service.url, "scoreboard_limit_fallbacks_total")
    with (
        start_trial(
            "Redis frozen",
            f"SIGSTOP of Valkey for {scale.pick('seconds', '30 s')}",
            "completions are accepted; reads take seconds at first and come from PostgreSQL",
        ) as trial,
        Crowd(service) as crowd,
    ):
        crowd.wait_for_answers(SOME)
        service.servers.valkey.freeze()
        try:
            thaw_at = time.monotonic() + frozen_for_s
            slowest_s = 0.0
            while time.monotonic() < thaw_at:
                asked_at = time.monotonic()
                assert board(Api(service.url), limit=10)
                slowest_s = max(slowest_s, time.monotonic() - asked_at)
            # Still frozen: this needs nothing of Redis.
            crowd.wait_for_answers(SOME)
        finally:
            service.servers.valkey.thaw()
        trial.hit()
        assert slowest_s < READ_BOUND_S
        crowd.wait_for_answers(SOME)
        trial.count(service, crowd)
    assert metric(service.url, "scoreboard_board_fallbacks_total") > fallbacks
    assert metric(service.url, "scoreboard_limit_fallbacks_total") > limits


def test_an_older_copy_takes_over(
    service: Service, proxies: list[TcpProxy], valkey: redis.Redis, start_trial: StartTrial, scale: Scale
) -> None:
    """A failover to a replica that has fallen behind: it knows older scores, queue, limits and events."""
    password = valkey.connection_pool.connection_kwargs["password"]
    with (
        start_trial(
            "Redis replaced by an older copy of itself",
            "failover to a replica that was cut off from the primary some hundred changes ago",
            "completions are accepted; nobody is shown the older board",
        ) as trial,
        Crowd(service) as crowd,
        ExitStack() as closing,
    ):
        for _ in range(scale.pick(1, 5)):
            crowd.resume()
            spare = closing.enter_context(copy_of(service.direct_env["REDIS_URL"], password))
            # What the copy will not know of.
            crowd.wait_for_answers(4 * SOME)
            proxies[0].redirect(spare)
            trial.hit()
            service.direct_env["REDIS_URL"] = spare
            assert_only_grows(service, crowd)
            trial.count(service, crowd)
        # The next scenarios' Redis is the first one again: emptied, or it would be an older copy too.
        crowd.pause()
        valkey.flushall()
        service.direct_env["REDIS_URL"] = f"redis://:{password}@127.0.0.1:{service.servers.valkey.port}/0"
        proxies[0].redirect(service.direct_env["REDIS_URL"])
        trial.hit()
        trial.count(service, crowd)


def test_older_standings_in_the_running_server(
    service: Service, valkey: redis.Redis, start_trial: StartTrial, scale: Scale
) -> None:
    """Nothing tells of it but the scores themselves: the players are the same, and so is the server."""
    keys = [f"sb:{{all}}:{name}" for name in BOARD_KEYS]
    with (
        start_trial(
            "standings replaced by older ones",
            "DUMP of the board's keys, and RESTORE in the same server some changes later",
            f"the older board is shown until the comparison that runs every minute{scale.pick(', here asked for', '')}",
        ) as trial,
        Crowd(service) as crowd,
    ):
        crowd.wait_for_answers(SOME)
        older = {key: valkey.dump(key) or b"" for key in keys}
        crowd.wait_for_answers(2 * SOME)
        # All is told and well: no later change is going to put a score right.
        trial.hit()
        trial.count(service, crowd)
        with valkey.pipeline(transaction=True) as at_once:
            for key, value in older.items():
                at_once.restore(key, 0, value, replace=True)
            at_once.execute()
        trial.hit()
        if not scale.is_long:
            make_celery(service.direct_env["REDIS_URL"]).send_task(COMPARE_BOARD)
        trial.count(service, crowd, within_s=scale.pick(30.0, 120.0))


def assert_only_grows(service: Service, crowd: Crowd) -> None:
    """While clients go on, no reader is ever shown an older board: the points of all its players only grow."""
    asked = Api(service.url)
    wanted = crowd.log.acknowledgements + SOME
    shown = 0
    while crowd.log.acknowledgements < wanted:
        points = sum(row["score"] for row in board(asked))
        assert points >= shown, f"{points} points on the board after {shown}"
        shown = points


@contextmanager
def copy_of(url: str, password: str) -> Iterator[str]:
    """The URL of a replica that was whole at the beginning and hears nothing from then on."""
    with (
        open_folder() as folder,
        LocalServers(folder, with_postgres=False) as servers,
        redis.Redis.from_url(url) as primary,
        redis.Redis.from_url(servers.redis_url) as replica,
    ):
        # At once, and without files: their folder isn't theirs to write to.
        primary.config_set("repl-diskless-sync-delay", 0)
        replica.config_set("repl-diskless-load", "swapdb")
        replica.config_set("masterauth", password)
        replica.replicaof("127.0.0.1", str(primary.connection_pool.connection_kwargs["port"]))
        eventually(lambda: replica.info("replication"), lambda state: state["master_link_status"] == "up", 30)
        replica.replicaof("NO", "ONE")
        replica.config_set("requirepass", password)
        yield f"redis://:{password}@127.0.0.1:{servers.valkey.port}/0"
