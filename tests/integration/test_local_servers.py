"""The local servers: started, killed, frozen, left behind, and always found or stopped again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from config import ROOT, Settings
from scoreboard.local import (
    LocalServers,
    LocalServersError,
    ServerAddresses,
    ServersBusyError,
    resolve_settings,
    running_servers,
)
from scoreboard.local import software as software_module
from scoreboard.local.process import wait_until_gone

GONE_WAIT_S = 20.0  # a fast shutdown writes a checkpoint first
# Another process that owns the servers of a folder until its input ends.
OWNER = """
import sys
from pathlib import Path
from scoreboard.local import LocalServers
with LocalServers(Path(sys.argv[1])) as servers:
    print(servers.postgres.pid, servers.valkey.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster_dir() -> Iterator[Path]:
    """A data folder that every user may enter (pytest's own may not), with one cluster for the whole module."""
    with tempfile.TemporaryDirectory(prefix="scoreboard-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def owner(cluster_dir: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], list[psutil.Process]]]]:
    """Starts another process that owns the servers; gives it and the two servers' processes."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(cluster_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]

    yield start
    for process in started:
        process.communicate()


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as session, session, session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def settings_for(folder: Path, **values: object) -> Settings:
    unset: dict[str, object] = {"database_url": None, "redis_url": None, "celery_broker_url": None}
    return Settings.load(**{**unset, "scoreboard_data": folder, **values})


def test_servers_are_durable_bounded_and_protected(cluster_dir: Path) -> None:
    with LocalServers(cluster_dir) as servers:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert query(servers.database_url, f"SHOW {setting}") == [("on",)]
        assert query(servers.database_url, "SHOW server_encoding") == [("UTF8",)]
        with redis.Redis.from_url(servers.redis_url) as client:
            limits = client.config_get("maxmemory*")
            assert limits["maxmemory-policy"] == "noeviction"
            assert int(limits["maxmemory"]) == 512 * 1024**2
        with pytest.raises(psycopg2.OperationalError, match="password"):
            query(servers.database_url.replace("scoreboard:", "scoreboard:x"), "SELECT 1")
        state = cluster_dir / "servers.json"
        assert state.stat().st_mode & 0o777 == 0o600
        assert json.loads(state.read_text())["database_url"] == servers.database_url


def test_data_survive_a_restart(cluster_dir: Path) -> None:
    with LocalServers(cluster_dir) as servers:
        query(servers.database_url, "CREATE TABLE survivors AS SELECT 'Ærø' AS name")
    with LocalServers(cluster_dir) as servers:
        assert query(servers.database_url, "SELECT name FROM survivors") == [("Ærø",)]


def test_stopping_leaves_no_process_and_no_address(cluster_dir: Path) -> None:
    with LocalServers(cluster_dir) as servers:
        processes = [psutil.Process(server.pid) for server in servers.wanted]
        assert len(processes) == 2
        assert running_servers(cluster_dir) == servers.addresses
    assert wait_until_gone(processes, 0) == []
    assert running_servers(cluster_dir) is None
    assert not (cluster_dir / "servers.json").exists()


def test_a_lock_file_with_another_programs_pid_does_not_stop_the_start(cluster_dir: Path) -> None:
    with LocalServers(cluster_dir):
        pass
    # Under the servers' own user: PostgreSQL itself sees through any other's pid.
    with subprocess.Popen(["sleep", "60"], user=(cluster_dir / "postgres").stat().st_uid) as stranger:
        lock = cluster_dir / "postgres" / "postmaster.pid"
        lock.write_text(f"{stranger.pid}\n{cluster_dir}/postgres\n")
        with LocalServers(cluster_dir) as servers:
            assert query(servers.database_url, "SELECT 1") == [(1,)]
        assert stranger.poll() is None
        stranger.kill()


def test_killed_servers_start_again_on_the_same_port(cluster_dir: Path) -> None:
    with LocalServers(cluster_dir) as servers:
        query(servers.database_url, "CREATE TABLE committed AS SELECT 1 AS x")
        before = servers.addresses
        for server in servers.wanted:
            server.kill()
            assert not server.is_running
            assert running_servers(cluster_dir) is None
            server.start()
        assert servers.addresses == before == running_servers(cluster_dir)
        assert query(servers.database_url, "SELECT x FROM committed") == [(1,)]
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.ping()


def test_a_frozen_server_does_not_answer_and_goes_on_when_thawed(cluster_dir: Path) -> None:
    with LocalServers(cluster_dir) as servers:
        with redis.Redis.from_url(servers.redis_url, socket_timeout=0.2, retry=None) as client:
            servers.valkey.freeze()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            servers.valkey.thaw()
            assert client.ping()
        servers.postgres.freeze()
        processes = [psutil.Process(server.pid) for server in servers.wanted]
    assert wait_until_gone(processes, 0) == []  # a frozen one was stopped as well


def test_servers_end_with_a_killed_parent(
    owner: Callable[[], tuple[subprocess.Popen[str], list[psutil.Process]]],
) -> None:
    parent, processes = owner()
    parent.kill()
    assert wait_until_gone(processes, GONE_WAIT_S) == []


def test_servers_left_behind_are_stopped_before_new_ones_start(
    cluster_dir: Path, owner: Callable[[], tuple[subprocess.Popen[str], list[psutil.Process]]]
) -> None:
    parent, processes = owner()
    for process in processes:
        process.send_signal(signal.SIGSTOP)  # frozen, they can't hear that their parent is gone
    parent.kill()
    parent.wait()
    assert len(wait_until_gone(processes, 0)) == 2
    with LocalServers(cluster_dir) as servers:
        assert wait_until_gone(processes, 0) == []
        assert query(servers.database_url, "SELECT 1") == [(1,)]


def test_a_folder_has_one_owner_and_others_join(
    cluster_dir: Path, owner: Callable[[], tuple[subprocess.Popen[str], list[psutil.Process]]]
) -> None:
    parent, processes = owner()
    with pytest.raises(ServersBusyError, match=str(parent.pid)), LocalServers(cluster_dir):
        pass
    addresses = running_servers(cluster_dir)
    assert isinstance(addresses, ServerAddresses)
    with resolve_settings(settings_for(cluster_dir)) as settings:
        assert settings.redis_url == addresses.redis_url
        assert query(str(settings.database_url).replace("+psycopg2", ""), "SELECT 1") == [(1,)]
    assert len(wait_until_gone(processes, 0)) == 2  # a guest leaves them running


def test_resolving_uses_given_addresses_and_starts_only_what_is_missing(cluster_dir: Path) -> None:
    given = settings_for(cluster_dir, database_url="postgresql://given/x", redis_url="redis://given")
    with resolve_settings(given) as settings:
        assert settings is given
    with resolve_settings(settings_for(cluster_dir, database_url="postgresql://given/x")) as settings:
        assert settings.database_url == "postgresql+psycopg2://given/x"
        with redis.Redis.from_url(str(settings.redis_url)) as client:
            assert client.ping()
        addresses = running_servers(cluster_dir)
        assert addresses == ServerAddresses(None, settings.redis_url)
    assert running_servers(cluster_dir) is None


def test_missing_wheels_are_one_clear_line(cluster_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software_module, "_PACKAGES", ("no-such-wheel",))
    with pytest.raises(LocalServersError, match=r"^no local servers .* set DATABASE_URL and REDIS_URL[^\n]*$"):
        LocalServers(cluster_dir).__enter__()


def test_data_of_another_release_are_refused_in_one_line(cluster_dir: Path) -> None:
    with LocalServers(cluster_dir):
        pass
    version = cluster_dir / "postgres" / "PG_VERSION"
    written = version.read_text()
    version.write_text("9\n")
    try:
        with pytest.raises(LocalServersError, match="was written by PostgreSQL 9"):
            LocalServers(cluster_dir).__enter__()
    finally:
        version.write_text(written)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that the servers' user may not enter")
def test_root_in_a_closed_folder_moves_the_servers_and_opens_nothing(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    lines: list[str] = []
    with LocalServers(closed / "var", announce=lines.append) as servers:
        home = servers.postgres.folder.parent
        try:
            assert query(servers.database_url, "SELECT 1") == [(1,)]
            assert not home.is_relative_to(tmp_path)
            assert len(lines) == 1
            assert str(home) in lines[0]
            assert {psutil.Process(server.pid).uids().real for server in servers.wanted}.isdisjoint({0})
            assert closed.stat().st_mode & 0o777 == 0o700
            assert running_servers(closed / "var") == servers.addresses
        finally:
            servers.postgres.stop()
            shutil.rmtree(home)
