"""A PostgreSQL that answers and can't serve, and a replica that comes and goes, under pooled connections."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import sqlalchemy as sa
from honcho.environ import parse_procfile

from config import ROOT, environment_with
from scoreboard.local import LocalServers
from scoreboard.local.servers import free_port
from scoreboard.local.supervisor import Supervisor
from scoreboard.store.replica import LATE_S
from tests.functional.client import (
    Admin,
    Api,
    Json,
    Player,
    board,
    create_staff,
    data_of,
    eventually,
    metric,
    register,
    registration,
)
from tests.servers import servers_in
from tests.service import Service, end_at_once, open_folder, rerouted_service, running_service
from tests.standby import Standby, standby_of

# "Within seconds", on a machine that runs other tests too.
HEALED_S = 40.0
# What a question to a frozen replica may take: its three seconds, and a slow machine.
FROZEN_BOUND_S = 8.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalServers]:
    with open_folder() as folder, servers_in(folder, with_valkey=False) as servers:
        yield servers


@pytest.fixture(scope="module")
def service(postgres: LocalServers) -> Iterator[Service]:
    with running_service(postgres, WEB_CONCURRENCY="1") as service:
        yield service


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture
def owner(service: Service) -> Iterator[sa.Engine]:
    url = service.database_url.replace("postgresql://", "postgresql+psycopg2://")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def say(engine: sa.Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def health_of(url: str, path: str = "/health/detailed") -> tuple[int, Json]:
    """The status, and what is told of the parts, wherever the one envelope has it."""
    answer = httpx.get(f"{url}{path}", timeout=30)
    told = answer.json()
    assert told["success"] == (answer.status_code == 200)
    if answer.status_code != 200:
        assert told["error"]["code"] == "SERVICE_UNAVAILABLE"
        assert int(answer.headers["Retry-After"]) >= 1
    found: Json = told["data"] if told["success"] else told["error"]["details"]
    return answer.status_code, found


def try_to_write(url: str) -> int:
    answer = Api(url).post("/v1/auth/register", registration())
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) >= 1
    return answer.status_code


def assert_no_traceback(service: Service, since: int) -> None:
    assert not [line for line in service.lines[since:] if "Traceback" in line or '"level":"error"' in line]


@pytest.mark.parametrize(
    ("break_it", "mend_it"),
    [
        (
            ["ALTER DATABASE {name} SET default_transaction_read_only = on", "{cut}"],
            ["SET default_transaction_read_only = off", "ALTER DATABASE {name} RESET default_transaction_read_only"],
        ),
        (
            ["REVOKE INSERT ON users, audit_log FROM app"],
            ["GRANT INSERT ON users, audit_log TO app"],
        ),
    ],
    ids=["read-only", "no right to insert"],
)
def test_a_database_that_takes_no_writes_is_told_and_heals(
    postgres: LocalServers, break_it: list[str], mend_it: list[str]
) -> None:
    """As a role of its own, whose rights can be taken away: the owner's can't."""
    with role_service(postgres) as (service, owner):
        player = register(service.url)
        player.score_point()
        waiting = player.request_action()
        names = {"name": sa.make_url(service.database_url).database, "cut": CUT}
        since = len(service.lines)
        say(owner, *[each.format(**names) for each in break_it])
        try:
            assert try_to_write(service.url) == 503
            assert {try_to_write(service.url) for _ in range(5)} == {503}
            status, told = health_of(service.url)
            assert (status, told["status"], told["parts"]["postgres"]["status"]) == (503, "down", "down")
            assert health_of(service.url, "/health")[0] == 503
            assert health_of(service.url, "/health/live") == (200, {"status": "ok"})
            assert metric(service.url, "scoreboard_part_up", part="postgres") == 0
            # The board is still there to be read.
            assert any(row["userId"] == player.id for row in board(Api(service.url)))
        finally:
            say(owner, *[each.format(**names) for each in mend_it])
        eventually(lambda: try_to_write(service.url), lambda status: status == 201, HEALED_S)
        assert data_of(player.complete(waiting))["status"] == "applied"
        eventually(lambda: health_of(service.url, "/health")[0], lambda status: status == 200, HEALED_S)
        assert_no_traceback(service, since)
        assert service.run("verify").returncode == 0


CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_restart_between_two_requests_costs_none(service: Service, owner: sa.Engine) -> None:
    """As long as the server is away only while nobody asks; each pool has connections that it cut."""
    player = register(service.url)
    player.score_point()
    for _ in range(3):
        say(owner, CUT)
        assert try_to_write(service.url) == 201
        player.score_point()


@contextmanager
def role_service(postgres: LocalServers) -> Iterator[tuple[Service, sa.Engine]]:
    """A service whose role has its rights by grant, and the owner who grants them."""
    role_env: dict[str, str] = {}

    def reroute(direct: Any) -> Any:
        url = sa.make_url(direct["DATABASE_URL"])
        owner = sa.create_engine(
            url.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        with suppress(sa.exc.ProgrammingError):
            say(owner, "CREATE ROLE app LOGIN PASSWORD 'app'")
        say(
            owner,
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app",
            "GRANT CREATE ON SCHEMA public TO app",
        )
        role_env["owner"] = url.render_as_string(hide_password=False)
        return {"DATABASE_URL": url.set(username="app", password="app").render_as_string(hide_password=False)}

    with rerouted_service(postgres, {"WEB_CONCURRENCY": "1"}, reroute=reroute) as service:
        url = role_env["owner"].replace("postgresql://", "postgresql+psycopg2://")
        yield service, sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


def test_each_right_that_the_role_lacks_is_told_without_a_write(postgres: LocalServers) -> None:
    """Also those that only workers and housekeeping use, of whose refusals no web process hears."""
    with role_service(postgres) as (service, owner):
        for table, right in (
            ("score_history", "INSERT"),
            ("fraud_signals", "SELECT"),
            ("actions", "UPDATE"),
            ("settlements", "UPDATE"),
            ("sessions", "DELETE"),
            ("standing_outbox", "DELETE"),
        ):
            say(owner, f"REVOKE {right} ON {table} FROM app")
            told = health_of(service.url)[1]["parts"]["postgres"]
            say(owner, f"GRANT {right} ON {table} TO app")
            assert told["status"] == "down"
            assert told["detail"] == f"the role lacks {right} on {table}"
        eventually(lambda: health_of(service.url, "/health")[0], lambda status: status == 200, HEALED_S)


@pytest.mark.parametrize("mode", ["SHARE", "ACCESS EXCLUSIVE"])
def test_a_table_that_another_session_holds_is_told_and_heals(service: Service, owner: sa.Engine, mode: str) -> None:
    with owner.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        holder.execute(sa.text(f"LOCK TABLE sessions IN {mode} MODE"))
        status, told = health_of(service.url)
        assert (status, told["parts"]["postgres"]["status"]) == (503, "down")
        assert "lock" in told["parts"]["postgres"]["detail"]
        assert health_of(service.url, "/health/ready") == (200, {"status": "degraded"})
        holder.rollback()
    eventually(lambda: health_of(service.url, "/health")[0], lambda status: status == 200, HEALED_S)
    assert try_to_write(service.url) == 201


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own, to be filled."""
    with open_folder() as folder:
        options = f"size={megabytes}m,mode=755"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip("making a file system needs root")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as writer:
        # Ends when the file system is full.
        while writer.write(bytes(65_536)):
            pass


def test_a_full_disk_is_told_without_a_write_and_heals() -> None:
    with (
        small_disk(400) as disk,
        servers_in(disk, with_valkey=False) as servers,
        running_service(servers, WEB_CONCURRENCY="1") as service,
    ):
        fill(disk / "fill")
        # Nobody has written since, and the pages there are may still have room for some rows.
        status, told = health_of(service.url)
        assert (status, told["parts"]["postgres"]["detail"]) == (503, "its disk is full")
        assert health_of(service.url, "/health")[0] == 503
        assert health_of(service.url, "/health/ready") == (200, {"status": "degraded"})
        (disk / "fill").unlink()
        eventually(lambda: health_of(service.url, "/health")[0], lambda status: status == 200, HEALED_S)
        register(service.url).score_point()


# -- web processes beside the service's own --------------------------------------------------------------------------


@contextmanager
def web_beside(service: Service, **environment: str) -> Iterator[str]:
    """The address of another web process with settings of its own."""
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes["web"]
    settings = {**service.settings_env, "PORT": str(port), "WEB_CONCURRENCY": "1", **environment}
    # The folder of another gunicorn's metrics is not this one's.
    settings["PROMETHEUS_MULTIPROC_DIR"] = ""
    supervisor = Supervisor(service.lines.append)
    supervisor.start("web", command, env=environment_with(**settings, PATH=path), cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _lives(url), bool, 30)
        yield url
    finally:
        end_at_once(supervisor)


def _lives(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health/live", timeout=5).status_code == 200
    return False


def test_a_standby_in_the_primarys_place_is_told_and_serves_when_it_is_promoted(
    postgres: LocalServers, service: Service
) -> None:
    player = register(service.url)
    player.score_point()
    with standby_of(postgres) as standby, web_beside(service, DATABASE_URL=standby.url_of(service.database_url)) as url:
        since = len(service.lines)
        assert {try_to_write(url) for _ in range(5)} == {503}
        assert health_of(url)[1]["parts"]["postgres"]["status"] == "down"
        # Redis shows the board: callers who only look are welcome.
        assert health_of(url, "/health/ready") == (200, {"status": "degraded"})
        assert any(row["userId"] == player.id for row in board(Api(url)))
        standby.promote()
        eventually(lambda: try_to_write(url), lambda status: status == 201, HEALED_S)
        eventually(lambda: health_of(url, "/health")[0], lambda status: status == 200, HEALED_S)
        assert_no_traceback(service, since)


def test_a_database_that_is_not_migrated_is_not_ready(service: Service, owner: sa.Engine) -> None:
    name = f"empty_{free_port()}"
    say(owner, f"CREATE DATABASE {name}")
    empty = sa.make_url(service.database_url).set(database=name).render_as_string(hide_password=False)
    with web_beside(service, DATABASE_URL=empty) as url:
        assert health_of(url, "/health/live")[0] == 200
        for path in ("/health", "/health/ready"):
            assert health_of(url, path)[0] == 503
        assert "migrate" in health_of(url)[1]["parts"]["postgres"]["detail"]
        assert try_to_write(url) == 503


# -- the replica -----------------------------------------------------------------------------------------------------


def questions(url: str, player: Player, admin: Admin) -> dict[str, Callable[[], httpx.Response]]:
    """All that README says the replica answers, while Redis isn't whole."""
    api, staff = Api(url, player.access_token), Api(url, admin.access_token)
    return {
        "board": lambda: Api(url).get("/v1/leaderboard"),
        "around": lambda: api.get("/v1/leaderboard/around/me"),
        "history": lambda: api.get("/v1/users/me/history"),
        "search": lambda: staff.get("/v1/admin/users"),
        "audit": lambda: staff.get("/v1/admin/audit"),
    }


def reads_on(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scoreboard-web'"
        return int(connection.execute(sa.text(query)).scalar_one())


@pytest.mark.timeout(240)
def test_a_replica_answers_and_may_die_or_freeze_under_pooled_connections(
    postgres: LocalServers, service: Service, admin: Admin
) -> None:
    player = register(service.url)
    player.score_point()
    with standby_of(postgres) as standby, open_folder() as folder, servers_in(folder, with_postgres=False) as empty:
        replica = standby.url_of(service.database_url)
        # An empty Redis of its own, which nobody fills: the board comes from PostgreSQL.
        with web_beside(service, DATABASE_REPLICA_URL=replica, REDIS_URL=empty.redis_url) as url:
            asked = questions(url, player, admin)

            def answers() -> dict[str, int]:
                return {name: ask().status_code for name, ask in asked.items()}

            well = dict.fromkeys(asked, 200)
            assert answers() == well
            lost = metric(url, "scoreboard_degraded_total", part="replica", what="read")
            assert lost == 0
            assert reads_by_replica(standby, service) > 0
            # What it was busy with is caught up.
            eventually(lambda: health_of(url)[1]["parts"]["replica"]["status"], lambda status: status == "ok", HEALED_S)

            standby.freeze()
            started_at = time.monotonic()
            assert answers() == well
            assert time.monotonic() - started_at < FROZEN_BOUND_S
            assert health_of(url)[1]["parts"]["replica"]["status"] == "down"
            assert metric(url, "scoreboard_degraded_total", part="replica", what="read") >= len(asked) - 1
            standby.thaw()
            eventually(lambda: replica_is_back(url, asked["history"]), bool, HEALED_S)

            standby.kill()
            assert answers() == well
            assert metric(url, "scoreboard_part_up", part="replica") == 0
            standby.start()
            eventually(lambda: replica_is_back(url, asked["history"]), bool, HEALED_S)
            eventually(lambda: health_of(url)[1]["parts"]["replica"]["status"], lambda status: status == "ok", HEALED_S)


@pytest.mark.timeout(240)
def test_a_replica_that_stands_still_or_goes_its_own_way_is_told_and_not_asked(
    postgres: LocalServers, service: Service
) -> None:
    player = register(service.url)
    with (
        standby_of(postgres) as standby,
        web_beside(service, DATABASE_REPLICA_URL=standby.url_of(service.database_url)) as url,
    ):
        api = Api(url, player.access_token)

        def replica() -> Json:
            told: Json = health_of(url)[1]["parts"]["replica"]
            return told

        def replayed() -> int:
            return len(data_of(api.get("/v1/users/me/history"))["items"])

        eventually(lambda: replica()["status"], lambda status: status == "ok", HEALED_S)
        standby_engine = sa.create_engine(standby.url.replace("postgresql://", "postgresql+psycopg2://"))
        try:
            say(standby_engine, "SELECT pg_wal_replay_pause()")
            player.score_point()
            late = eventually(replica, lambda told: told["status"] == "degraded", LATE_S + HEALED_S)
            assert late["detail"].endswith("s late")
            assert metric(url, "scoreboard_part_up", part="replica") == 0
            # The primary is asked instead.
            assert replayed() == 1
            say(standby_engine, "SELECT pg_wal_replay_resume()")
            eventually(lambda: replica()["status"], lambda status: status == "ok", HEALED_S)
            standby.promote()
            told = eventually(replica, lambda told: told["status"] == "degraded", HEALED_S)
            assert "does not follow the primary" in told["detail"]
            player.score_point()
            assert replayed() == 2
        finally:
            standby_engine.dispose()


def reads_by_replica(standby: Standby, service: Service) -> int:
    """Connections that web has to the standby."""
    url = standby.url_of(service.database_url).replace("postgresql://", "postgresql+psycopg2://")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    return reads_on(engine)


def replica_is_back(url: str, ask: Callable[[], httpx.Response]) -> bool:
    before = metric(url, "scoreboard_degraded_total", part="replica", what="read")
    assert ask().status_code == 200
    return metric(url, "scoreboard_degraded_total", part="replica", what="read") == before


def test_ready_is_down_when_neither_postgres_nor_a_whole_board_is_there(service: Service) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with open_folder() as folder, servers_in(folder, with_postgres=False) as empty:
        with web_beside(service, DATABASE_URL=nowhere) as url:
            assert health_of(url, "/health/ready") == (200, {"status": "degraded"})
        with web_beside(service, DATABASE_URL=nowhere, REDIS_URL=empty.redis_url) as url:
            with redis.Redis.from_url(empty.redis_url) as client:
                assert client.ping()
            assert health_of(url, "/health/ready")[0] == 503
            assert health_of(url, "/health/live")[0] == 200
