"""Whole flows through PgBouncer, by session and by transaction: nothing is refused, lost or mixed up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from scoreboard.local import LocalServers
from scoreboard.store.engine import make_engine
from scoreboard.store.migrate import upgrade
from tests.functional.client import Player, create_staff, data_of, eventually, metric, register
from tests.pgbouncer import PROGRAM, pgbouncer, through
from tests.service import Service, fresh_database, rerouted_service

pytestmark = pytest.mark.skipif(
    PROGRAM is None and not os.environ.get("CI"), reason="needs pgbouncer: apt-get install pgbouncer"
)
PLAYERS, POINTS = 12, 4


@pytest.fixture(params=["session", "transaction"], scope="module")
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def port(local_servers: LocalServers, mode: str) -> Iterator[int]:
    with pgbouncer(local_servers.database_url, mode) as port:
        yield port


@pytest.fixture(scope="module")
def service(local_servers: LocalServers, mode: str, port: int) -> Iterator[Service]:
    def reroute(direct: Mapping[str, str]) -> Mapping[str, str]:
        return {"DATABASE_URL": through(port, direct["DATABASE_URL"])}

    # By session each of its connections keeps one of the pooler's twenty: 5 of web, 3 of the worker, 3 of a command.
    settings = {"DATABASE_POOLER": mode, "WEB_CONCURRENCY": "1", "DATABASE_POOL_SIZE": "5"}
    with rerouted_service(local_servers, settings, reroute=reroute) as service:
        yield service


def test_whole_flows_settle_and_the_books_are_right(service: Service) -> None:
    def play(_: int) -> Player:
        player = register(service.url)
        for _ in range(POINTS):
            player.score_point()
        return player

    with ThreadPoolExecutor(PLAYERS) as pool:
        players = list(pool.map(play, range(PLAYERS)))
    assert [player.score()["score"] for player in players] == [POINTS] * PLAYERS
    assert len(players[0].history()) == POINTS
    admin = create_staff(service)
    admin.adjust(players[0], 5)
    eventually(lambda: players[0].score()["score"], lambda score: score == POINTS + 5)
    for command in ("migrate", "rebuild", "verify"):
        done = service.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    data_of(players[0].api.post("/v1/auth/logout"))
    for code in ("INTERNAL_ERROR", "SERVICE_UNAVAILABLE"):
        assert metric(service.url, "scoreboard_refusals_total", code=code) == 0
    assert not [line for line in service.lines if "Traceback" in line or "prepared statement" in line]


def test_an_empty_database_is_migrated_through_it(local_servers: LocalServers, port: int) -> None:
    url = fresh_database(local_servers.database_url).replace("postgresql://", "postgresql+psycopg2://")
    upgrade(through(port, url))


def test_time_outs_hold_through_it(local_servers: LocalServers, mode: str, port: int) -> None:
    url = through(port, local_servers.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    shown = sa.text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
    for is_autocommit in (False, True):
        engine = make_engine(
            url,
            1,
            name="test",
            is_autocommit=is_autocommit,
            statement_timeout_s=7,
            lock_timeout_s=3,
            pooler=mode,  # type: ignore[arg-type]  # both are poolers
        )
        with engine.connect() as connection:
            for _ in range(2):
                assert connection.execute(shown).one() == ("7s", "3s")
        engine.dispose()
    # Nobody else's connections are left with them.
    plain = sa.create_engine(url, poolclass=sa.NullPool)
    with plain.connect() as connection:
        assert connection.execute(shown).one() == ("0", "0")
