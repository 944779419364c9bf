"""Processes killed where it would hurt most: a proxy holds them at a named point, then SIGKILL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import redis
import sqlalchemy as sa

from scoreboard.live.queue import app as queue
from scoreboard.live.server_run import _with_run
from tests.faults.conftest import StartTrial
from tests.faults.crowd import Crowd
from tests.faults.driver import Driver
from tests.faults.scale import Scale
from tests.faults.tcp_proxy import TcpProxy, Word
from tests.service import Service

# A restarted process takes seconds to do its first work on busy cores.
_ARRIVE_S = 60.0
# Other commits than that of a settlement come by: of sweeps that find nothing, some every two seconds.
_TRIES = 30
_STANDING = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' "
    "AND query LIKE 'EXECUTE write_settlement%'"
)


@dataclass
class Proxies:
    """A service whose web and worker processes reach each server over a proxy of their own."""

    service: Service
    web_database: TcpProxy
    web_broker: TcpProxy
    worker_database: TcpProxy
    worker_redis: TcpProxy

    def before_commit(self) -> Word:
        """A settlement is written and not committed."""
        url = self.service.direct_env["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        try:
            for _ in range(_TRIES):
                word = self.worker_database.hold(b"COMMIT")
                word.wait(_ARRIVE_S)
                with engine.connect() as connection:
                    if connection.execute(_STANDING).scalar_one():
                        return word
                self.worker_database.heal()
        finally:
            engine.dispose()
        raise AssertionError("no settlement came to its commit")


@dataclass(frozen=True)
class Point:
    """Where a process is made to stand, and which one it is."""

    name: str
    process: str
    stand: Callable[[Proxies], tuple[TcpProxy, Word]]
    # Also played when there are only seconds.
    is_short: bool = True


def _script(proxies: Proxies, name: str) -> bytes:
    """How a call of this script begins on the wire: its text holds the run of the server."""
    with redis.Redis.from_url(proxies.service.direct_env["REDIS_URL"]) as client:
        source = _with_run(name, str(client.info("server")["run_id"]))
    return hashlib.sha1(source.encode()).hexdigest().encode()  # noqa: S324  # Redis' own name for it


POINTS = (
    Point(
        "before the acceptance",
        "web",
        lambda proxies: (proxies.web_database, proxies.web_database.hold(b"EXECUTE accept_")),
        is_short=False,
    ),
    Point(
        "after the acceptance, before its 202",
        "web",
        lambda proxies: (proxies.web_database, proxies.web_database.lose_answer(b"EXECUTE accept_", is_silent=True)),
        is_short=False,
    ),
    Point(
        "after the acceptance, before the message",
        "web",
        lambda proxies: (proxies.web_broker, proxies.web_broker.hold(queue.SETTLE.encode())),
    ),
    Point(
        "before the commit of a settlement",
        "worker",
        lambda proxies: (proxies.worker_database, proxies.before_commit()),
    ),
    Point(
        "after the commit, before Redis",
        "worker",
        lambda proxies: (proxies.worker_redis, proxies.worker_redis.hold(_script(proxies, "apply_standings"))),
    ),
    Point(
        "after Redis, before the events",
        "worker",
        lambda proxies: (proxies.worker_redis, proxies.worker_redis.hold(_script(proxies, "publish"))),
    ),
    Point(
        "after the events, before the note that they are out",
        "worker",
        lambda proxies: (proxies.worker_database, proxies.worker_database.hold(b"EXECUTE announce_settlement")),
        is_short=False,
    ),
)


@pytest.fixture
def proxies(start_fault_service: Callable[..., Service]) -> Iterator[Proxies]:
    with ExitStack() as closing:
        proxies: list[TcpProxy] = []
        process_env: dict[str, dict[str, str]] = {}

        def reroute(env: Mapping[str, str]) -> dict[str, str]:
            database, valkey = env["DATABASE_URL"], env["REDIS_URL"]
            proxies.extend(closing.enter_context(TcpProxy(url)) for url in (database, valkey, database, valkey))
            process_env["web"] = {
                "DATABASE_URL": proxies[0].url_for(database),
                "CELERY_BROKER_URL": proxies[1].url_for(valkey),
            }
            process_env["worker"] = {
                "DATABASE_URL": proxies[2].url_for(database),
                "REDIS_URL": proxies[3].url_for(valkey),
                "CELERY_BROKER_URL": valkey,
            }
            return {}

        service = start_fault_service(reroute=reroute, process_env=process_env)
        yield Proxies(service, *proxies)


def test_killed_at_named_points(proxies: Proxies, start_trial: StartTrial, scale: Scale) -> None:
    """At length each point is a row of its own, so that each shows its own time to get well."""
    together: list[list[Point]] = [[point for point in POINTS if point.is_short]]
    for points in scale.pick(together, [[point] for point in POINTS]):
        where = points[0].name if len(points) == 1 else "at named points"
        with (
            start_trial(
                f"killed {where}",
                "held there by a proxy, then SIGKILL of the children of gunicorn or Celery, or of the whole family",
                "requests of the killed process are sent again",
            ) as trial,
            Driver(proxies.service) as driver,
            Crowd(proxies.service) as crowd,
        ):
            for number in range(scale.pick(1, 4)):
                crowd.resume()
                for point in points:
                    crowd.wait_for_answers(10)
                    kill_at(proxies, driver, point, whole_family=number % 2 == 1)
                    trial.hit()
                crowd.wait_for_answers(10)
                trial.count(proxies.service, crowd)


def kill_at(proxies: Proxies, driver: Driver, point: Point, *, whole_family: bool) -> None:
    proxy, word = point.stand(proxies)
    word.wait(_ARRIVE_S)
    if whole_family:
        driver.kill_family(point.process)
    else:
        driver.kill_children(point.process)
    # What was held dies with its connection: let through now, it would be done after all.
    proxy.reset()
    proxy.heal()
