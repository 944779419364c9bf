"""What `make bench` measures: the whole service, each variant on a PostgreSQL and a Valkey of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil
import redis
from honcho.environ import parse_procfile

from benchmarks.usage import Group
from config import ROOT, environment_with
from scoreboard.local import LocalServers
from scoreboard.local.servers import free_port
from scoreboard.local.supervisor import Supervisor
from scoreboard.store.migrate import upgrade
from tests.service import open_folder

WEB_PROCESSES = 2
# Celery's own choice on two cores.
NAIVE_WORKERS = 2
_START_WAIT_S = 60.0
_POLL_S = 0.1
# Seeding and verifying take seconds; a million players or entries take minutes.
_COMMAND_WAIT_S = 600.0
_LOG_TAIL_BYTES = 4_000
# The defaults times sixty, window by window: every check is made, and one machine can play everybody.
_SETTINGS = {
    "WEB_CONCURRENCY": str(WEB_PROCESSES),
    "BROADCAST_INTERVAL_MS": "0",
    "RATE_LIMIT_REQUEST": "1200/minute",
    "RATE_LIMIT_COMPLETE": "60/second;600/minute;6000/hour;30000/day",
    "RATE_LIMIT_COMPLETE_FLAGGED": "60/minute",
    "RATE_LIMIT_STREAM": "180000/5 minutes",
    "RATE_LIMIT_ANONYMOUS": "60000/hour",
}


@dataclass(frozen=True)
class FlowServer:
    """A running variant, with players."""

    name: str
    port: int
    environment: Mapping[str, str]
    servers: LocalServers
    tokens: Path
    web: psutil.Process
    worker: psutil.Process
    beat: psutil.Process | None

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    def web_pids(self) -> list[int]:
        """Those that serve; gunicorn's first process only minds them."""
        return sorted(each.pid for each in self.web.children())

    def groups(self) -> dict[str, Group]:
        """Its processes by kind."""
        groups = {
            "web": Group([self.web]),
            "worker": Group([self.worker], skip_roots=True),
            "celery": Group([self.worker], only_roots=True),
            "postgres": Group([psutil.Process(self.servers.postgres.pid)]),
            "valkey": Group([psutil.Process(self.servers.valkey.pid)]),
        }
        return groups | ({"beat": Group([self.beat])} if self.beat else {})

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a ``scoreboard`` command against it."""
        return _command(self.environment, *arguments)


@contextmanager
def running_ours(players: int, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[FlowServer]:
    """The service as its Procfile starts it, with these settings in addition."""
    commands = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes
    with _running("ours", commands, players, port=free_port(), is_up=_is_healthy, settings=settings) as server:
        yield server


@contextmanager
def running_naive(players: int) -> Iterator[FlowServer]:
    """The naive variant, with as many processes."""
    port = free_port()
    commands = {
        "web": f"gunicorn --worker-class gevent --workers {WEB_PROCESSES} --bind 127.0.0.1:{port} --reuse-port "
        "--keep-alive 65 --no-control-socket --access-logfile - 'benchmarks.naive:create_app()'",
        "worker": f"celery --app benchmarks.naive_tasks worker --concurrency {NAIVE_WORKERS}",
    }
    with _running("naive", commands, players, port=port, is_up=_is_there) as server:
        # The board that seeding made is the service's own, and nobody keeps it up to date here.
        redis.Redis.from_url(server.environment["REDIS_URL"]).flushall()
        yield server


@contextmanager
def _running(
    name: str,
    commands: Mapping[str, str],
    players: int,
    *,
    port: int,
    is_up: Callable[[int], bool],
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[FlowServer]:
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        servers = closing.enter_context(LocalServers(folder / "servers"))
        (folder / "metrics").mkdir()
        environment = {
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "PORT": str(port),
            "SCOREBOARD_DATA": str(folder / "data"),
            "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
            **_SETTINGS,
            **settings,
        }
        upgrade(servers.database_url.replace("postgresql://", "postgresql+psycopg2://"))
        tokens = folder / "tokens.tsv"
        _seed(environment, players, tokens)
        supervisor = Supervisor(lambda _: None)
        closing.callback(supervisor.stop)
        started = {
            process: _start(supervisor, process, command, environment, folder)
            for process, command in commands.items()
            if process != "release"
        }
        _wait_until_up(lambda: is_up(port), supervisor, folder)
        beat = started.get("beat")
        yield FlowServer(name, port, environment, servers, tokens, started["web"], started["worker"], beat)


def _start(
    supervisor: Supervisor, name: str, command: str, environment: Mapping[str, str], folder: Path
) -> psutil.Process:
    """Start one process with its output in a file: who reads it would be work beside what is measured."""
    before = set(psutil.Process().children())
    path = f"{Path(sys.executable).parent}:{environment_with()['PATH']}"
    log = shlex.quote(str(folder / f"{name}.log"))
    supervisor.start(name, f"{command} >> {log} 2>&1", env=environment_with(**environment, PATH=path), cwd=ROOT)
    (process,) = set(psutil.Process().children()) - before
    return process


def _seed(environment: Mapping[str, str], players: int, tokens: Path) -> None:
    made = _command(environment, "seed", "--users", str(players), "--tokens", str(tokens))
    if made.returncode:
        raise RuntimeError(f"no players could be made:\n{made.stdout}{made.stderr}")


def _command(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scoreboard", *arguments],
        cwd=ROOT,
        env=environment_with(**environment),
        capture_output=True,
        text=True,
        timeout=_COMMAND_WAIT_S,
        check=False,
    )


def _is_there(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success


def _is_healthy(port: int) -> bool:
    """Every part of it answers, the worker too."""
    health = httpx.get(f"http://127.0.0.1:{port}/health/detailed", timeout=5).json()
    return bool(health["data"]["status"] == "ok")


def _wait_until_up(is_up: Callable[[], bool], supervisor: Supervisor, folder: Path) -> None:
    deadline = time.monotonic() + _START_WAIT_S
    while time.monotonic() < deadline and supervisor.ended() is None:
        try:
            if is_up():
                return
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        time.sleep(_POLL_S)
    raise RuntimeError("a server did not start:\n" + "\n".join(_tails(sorted(folder.glob("*.log")))))


def _tails(logs: Sequence[Path]) -> Iterator[str]:
    for log in logs:
        yield f"{log.stem}: {log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors='replace')}"
