"""The release phase: beside another one, beside long readers, and on databases that are no use."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from config import ROOT, environment_with
from scoreboard.local import LocalServers
from scoreboard.services.upkeep.housekeeping import make_partitions
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.migrate import upgrade
from tests.service import fresh_database

# What a request may have to wait for: half a second behind a change of tables, and a slow machine.
WAIT_BOUND_S = 2.5
NOW = datetime(2031, 5, 6, tzinfo=UTC)
ZOE = "Zoë 名"


@pytest.fixture
def url(local_servers: LocalServers) -> str:
    return fresh_database(local_servers.database_url).replace("postgresql://", "postgresql+psycopg2://")


def run(url: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = url.replace("+psycopg2", "", 1)
    return subprocess.run(
        [sys.executable, "-m", "scoreboard", *command],
        cwd=ROOT,
        env=environment_with(DATABASE_URL=plain, REDIS_URL="redis://127.0.0.1:1", **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    for word in words:
        assert word in line


@contextmanager
def long_reader(url: str, table: str) -> Iterator[None]:
    """A transaction that has read the table and stays open."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"SELECT count(*) FROM {table}"))
        yield


def in_threads(*calls: Callable[[], object]) -> tuple[list[threading.Thread], list[Exception]]:
    """The calls, begun at one moment; and what they raised, as far as they are done."""
    failures: list[Exception] = []
    barrier = threading.Barrier(len(calls))

    def call(work: Callable[[], object]) -> None:
        barrier.wait(10)
        try:
            work()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(each,)) for each in calls]
    for thread in threads:
        thread.start()
    return threads, failures


def slowest_read(url: str, table: str, times: int) -> float:
    """Seconds that the slowest of some requests' reads took."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
    slowest = 0.0
    with engine.connect() as connection:
        for _ in range(times):
            started_at = time.monotonic()
            connection.execute(sa.text(f"SELECT * FROM {table} LIMIT 1"))
            slowest = max(slowest, time.monotonic() - started_at)
            time.sleep(0.05)
    engine.dispose()
    return slowest


def test_two_that_lack_the_same_partitions_both_succeed_and_hold_nobody_up(url: str) -> None:
    upgrade(url)
    databases = [Database(make_engine(url, 3, name="test")) for _ in range(2)]
    with long_reader(url, "score_history"):
        threads, failures = in_threads(*(lambda each=each: make_partitions(each, NOW, wait_s=30) for each in databases))
        assert slowest_read(url, "score_history", 40) < WAIT_BOUND_S
        assert [thread.is_alive() for thread in threads] == [True] * 2
    for thread in threads:
        thread.join(30)
    assert failures == []
    with databases[0].read() as connection:
        query = "SELECT count(*) FROM pg_class WHERE relname LIKE 'score_history_2031_%' AND relkind = 'r'"
        assert connection.execute(sa.text(query)).scalar_one() == 5
    for database in databases:
        database.dispose()


def test_a_migration_waits_for_readers_without_holding_up_others(url: str) -> None:
    upgrade(url, "0001")
    with long_reader(url, "actions"):
        (thread,), failures = in_threads(lambda: upgrade(url))
        assert slowest_read(url, "actions", 40) < WAIT_BOUND_S
        assert thread.is_alive()
    thread.join(30)
    assert (thread.is_alive(), failures) == (False, [])
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM settlements")).scalar_one() == 0
    engine.dispose()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_in_another_encoding_is_refused_in_one_line(local_servers: LocalServers, encoding: str) -> None:
    server = sa.make_url(local_servers.database_url).set(drivername="postgresql+psycopg2")
    name = f"in_{encoding.lower()}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        is_newer = connection.execute(sa.text("SELECT current_setting('server_version_num')::int >= 150000")).scalar()
        provider = "LOCALE_PROVIDER libc" if is_newer else ""
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(
            sa.text(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' {provider} TEMPLATE template0")
        )
    engine.dispose()
    done = run(server.set(database=name).render_as_string(hide_password=False), "migrate")
    assert_one_line(done, encoding, "UTF8", "CREATE DATABASE")


def test_a_role_that_may_not_make_tables_is_told_in_one_line(url: str) -> None:
    role = f"reader_{NOW:%Y}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP ROLE IF EXISTS {role}"))
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN PASSWORD 'reader'"))
        connection.execute(sa.text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    engine.dispose()
    done = run(sa.make_url(url).set(username=role, password="reader").render_as_string(hide_password=False), "migrate")
    assert_one_line(done, "DATABASE_URL", "permission denied", "the role lacks a right")


def test_a_database_that_takes_no_writes_is_refused_in_one_line(url: str) -> None:
    assert_one_line(run(url, "migrate", PGOPTIONS="-c default_transaction_read_only=on"), "takes no writes")


def test_names_in_any_script_arrive_whatever_the_environment_says(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    for pooler in ("session", "transaction"):
        engine = make_engine(url, 1, name="test", pooler=pooler)
        with engine.connect() as connection:
            assert connection.execute(sa.select(sa.literal(ZOE))).scalar_one() == ZOE
        engine.dispose()
