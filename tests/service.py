"""The real service for functional tests: every process of the Procfile, on real servers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import httpx
import psutil
import sqlalchemy as sa
from honcho.environ import parse_procfile

from config import ROOT, environment_with
from scoreboard.local import LocalServers
from scoreboard.local.servers import free_port
from scoreboard.local.supervisor import Supervisor
from scoreboard.store.migrate import upgrade
from tests.servers import servers_in

START_WAIT_S = 90.0
# One address plays everybody in a test: the limits stay on, further up. Tests of limits set their own.
GENEROUS_LIMITS = {
    "RATE_LIMIT_LOGIN": "10000/minute",
    "RATE_LIMIT_LOGIN_ADDRESS": "10000/minute",
    "RATE_LIMIT_REGISTER": "1000000/hour",
    "RATE_LIMIT_REFRESH": "1000000/hour",
    "RATE_LIMIT_REQUEST": "10000/minute",
    "RATE_LIMIT_COMPLETE": "10000/minute",
    "RATE_LIMIT_BATCH": "100000/minute",
    "RATE_LIMIT_READ": "100000/minute",
    "RATE_LIMIT_READ_USER": "100000/minute",
    "RATE_LIMIT_SCORE": "100000/minute",
    "RATE_LIMIT_ANONYMOUS": "1000000/hour",
    "RATE_LIMIT_STREAM": "100000/minute",
    "RATE_LIMIT_STREAM_USER": "100000/minute",
    "MAX_STREAMS_PER_IP": "1000",
    "MAX_STREAMS_PER_USER": "1000",
    "MAX_OPEN_ACTIONS": "100",
}


# The processes that serve, by their names in the Procfile.
SERVING = ("web", "worker", "beat")
# From the settings that lead straight to the servers to those that are to be used instead, as through a proxy.
Reroute = Callable[[Mapping[str, str]], Mapping[str, str]]


@dataclass
class Service:
    """A running service with a database and a Valkey of its own."""

    url: str
    settings_env: dict[str, str]
    servers: LocalServers
    supervisor: Supervisor
    # Of its own, so that a test can take the web away from under its browsers.
    web: Supervisor
    lines: list[str] = field(default_factory=list)
    # The server its database is on, and the addresses of database and Valkey when the settings go through a proxy.
    database_servers: LocalServers | None = None
    direct_env: dict[str, str] = field(default_factory=dict)
    # What only one process of that name gets.
    process_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        return self.settings_env["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        return self.settings_env["REDIS_URL"]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a ``scoreboard`` command against this service."""
        return subprocess.run(
            [sys.executable, "-m", "scoreboard", *arguments],
            cwd=ROOT,
            env=environment_with(**{**self.settings_env, **environment}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def stop_web(self) -> None:
        """End the web processes, as a deployment does; worker and beat go on."""
        self.web.stop()

    def start_web(self) -> None:
        """Start the web processes on the port they had; returns when they answer."""
        self.start("web")
        self.wait_until_up()

    def supervisor_of(self, name: str) -> Supervisor:
        return self.web if name == "web" else self.supervisor

    def start(self, name: str) -> None:
        """Start a line of the Procfile with this service's settings, in the place of one that has ended."""
        supervisor = self.supervisor_of(name)
        supervisor.forget_ended(name)
        start_process(supervisor, name, {**self.settings_env, **self.process_env.get(name, {})})

    @contextmanager
    def frozen_worker(self) -> Iterator[None]:
        """Nobody settles meanwhile: the worker's processes stand still."""
        root = psutil.Process(self.supervisor.pids()["worker"])
        family = [root, *root.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_WAIT_S
        token = self.settings_env.get("OPERATOR_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        while time.monotonic() < deadline:
            if dead := self.web.ended() or self.supervisor.ended():
                raise RuntimeError(f"{dead.name} ended:\n" + "\n".join(dead.tail))
            try:
                health = httpx.get(f"{self.url}/health/detailed", headers=headers, timeout=5).json()
                if health["data"]["status"] == "ok":
                    return
            except (httpx.HTTPError, KeyError, ValueError):
                pass
            time.sleep(0.1)
        raise RuntimeError("the service did not get well in time:\n" + "\n".join(self.lines[-40:]))


@contextmanager
def running_service(database_servers: LocalServers, **environment: str) -> Iterator[Service]:
    """Start web, worker and beat with a fresh database and a fresh Valkey; stop them all at the end."""
    with rerouted_service(database_servers, environment) as service:
        yield service


@contextmanager
def rerouted_service(
    database_servers: LocalServers,
    environment: Mapping[str, str],
    *,
    reroute: Reroute = lambda _: {},
    process_env: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Iterator[Service]:
    """The same, with what comes between it and its servers, and with what only the process of some name gets."""
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        servers = closing.enter_context(servers_in(folder / "servers", with_postgres=False))
        port = free_port()
        metrics = folder / "metrics"
        metrics.mkdir(parents=True)
        settings_env = {
            "DATABASE_URL": fresh_database(database_servers.database_url),
            "REDIS_URL": servers.redis_url,
            "PORT": str(port),
            "SCOREBOARD_DATA": str(folder / "data"),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            **GENEROUS_LIMITS,
            **environment,
        }
        upgrade(settings_env["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://"))
        direct_env = {name: settings_env[name] for name in ("DATABASE_URL", "REDIS_URL")}
        settings_env.update(reroute(settings_env))
        lines: list[str] = []
        supervisor, web = Supervisor(lines.append), Supervisor(lines.append)
        closing.callback(end_at_once, supervisor)
        closing.callback(end_at_once, web)
        url = f"http://127.0.0.1:{port}"
        service = Service(url, settings_env, servers, supervisor, web, lines, database_servers, direct_env, process_env)
        for name in SERVING:
            service.start(name)
        service.wait_until_up()
        yield service


def end_at_once(supervisor: Supervisor) -> None:
    """Kill its processes with all they started; an orderly end costs seconds, and is for tests about it."""
    for pid in supervisor.pids().values():
        # Each leads a group of its own; one without members is gone.
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    supervisor.stop()


def start_process(supervisor: Supervisor, name: str, environment: dict[str, str]) -> None:
    """Start one line of the Procfile."""
    command = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes[name]
    # The Procfile's programs are those of this environment, also when it isn't activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    supervisor.start(name, command, env=environment_with(**environment, PATH=path), cwd=ROOT)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that the servers' unprivileged user may enter too; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="scoreboard-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_database(server_url: str) -> str:
    """The URL of a new, empty database on that server."""
    name = f"test_{uuid4().hex}"
    url = sa.make_url(server_url.replace("postgresql://", "postgresql+psycopg2://"))
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
