"""``scoreboard run`` as an operator meets it: one line when it is up or can't be, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from config import ROOT, environment_with
from scoreboard.local import running_servers
from scoreboard.local.process import wait_until_gone
from scoreboard.local.servers import free_port

# Starting is bounded at a minute on a bare machine, stopping at 40 s.
pytestmark = pytest.mark.timeout(300)
STOP_WAIT_S = 40.0
PLAYER = {"username": "Ærøboer", "email": "player@example.org", "password": "a long enough pass phrase"}


class Run:
    """A running ``scoreboard run``."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        unset = dict.fromkeys(("DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "CELERY_BROKER_URL"), "")
        self.port = int(environment.get("PORT") or free_port())
        values = {**unset, "PORT": str(self.port), "SCOREBOARD_DATA": str(data_dir), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scoreboard", "run"],
            cwd=ROOT,
            env=environment_with(**values),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def first_line(self) -> str:
        """Wait for the first line on standard output; empty when it ended without one."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, sig: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
        """Send the signal; the exit status and what it still printed."""
        self.process.send_signal(sig)
        return self.outcome()

    def outcome(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=STOP_WAIT_S)
        return self.process.returncode, output, errors


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder that every user may enter; pytest's own may be closed to the servers' user."""
    with tempfile.TemporaryDirectory(prefix="scoreboard-run-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., Run]]:
    """Starts ``scoreboard run`` on the data folder; what a failed test left running is killed."""
    started: list[Run] = []

    def start_run(**environment: str) -> Run:
        started.append(Run(data_dir, **environment))
        return started[-1]

    yield start_run
    for run in started:
        if run.process.poll() is None:
            family = run.family()
            run.process.kill()
            run.outcome()
            wait_until_gone(family, STOP_WAIT_S)


def test_it_says_where_it_is_keeps_its_data_and_leaves_nothing(data_dir: Path, start: Callable[..., Run]) -> None:
    # What it says has a dash, which this encoding lacks.
    first = start(PYTHONIOENCODING="latin-1")
    address = f"http://127.0.0.1:{first.port}/"
    assert address in first.first_line()
    family = first.family()
    answer = httpx.post(f"{address}v1/auth/register", json=PLAYER)
    assert answer.status_code == 201, answer.text
    assert first.stop(signal.SIGINT) == (0, "", "")
    assert wait_until_gone(family, 0) == []

    second = start()
    address = f"http://127.0.0.1:{second.port}/"
    assert address in second.first_line()
    family = second.family()
    credentials = {name: PLAYER[name] for name in ("username", "password")}
    answer = httpx.post(f"{address}v1/auth/login", json=credentials)
    assert answer.status_code == 200, answer.text
    assert second.stop(signal.SIGTERM) == (0, "", "")
    assert wait_until_gone(family, 0) == []
    assert running_servers(data_dir) is None


def test_one_process_that_ends_stops_all_and_is_named(start: Callable[..., Run]) -> None:
    running = start()
    assert "http://" in running.first_line()
    family = running.family()
    beat = next(process for process in family if {"celery", "beat"} <= {Path(word).name for word in process.cmdline()})
    beat.kill()
    status, output, errors = running.outcome()
    assert (status, output) == (1, "")
    assert errors.startswith("beat ended (status -9)")
    assert wait_until_gone(family, 0) == []


def test_nothing_outlives_a_killed_run_and_a_second_one_is_refused_meanwhile(start: Callable[..., Run]) -> None:
    running = start()
    assert "http://" in running.first_line()
    family = running.family()

    status, output, errors = start().outcome()
    assert (status, output) == (1, "")
    assert re.fullmatch(rf"[^\n]* is in use by process {running.process.pid}: [^\n]*\n", errors)

    running.process.kill()
    running.outcome()
    assert wait_until_gone(family, STOP_WAIT_S) == []


def test_a_port_in_use_is_one_line(data_dir: Path, start: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        status, output, errors = start(PORT=port).outcome()
    assert (status, output) == (1, "")
    assert re.fullmatch(rf"PORT: {port} can't be used [^\n]*\n", errors)
    assert os.listdir(data_dir) == []  # noqa: PTH208  # nothing was started or made


def test_each_broken_setting_is_one_line(start: Callable[..., Run]) -> None:
    status, output, errors = start(PORT="80000", RATE_LIMIT_LOGIN="often").outcome()
    assert (status, output) == (2, "")
    assert sorted(line.partition(":")[0] for line in errors.splitlines()) == ["PORT", "RATE_LIMIT_LOGIN"]


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("DATABASE_URL", "postgresql://someone:hidden@127.0.0.1:{port}/x"),
        ("REDIS_URL", "redis://:hidden@127.0.0.1:{port}/0"),
        ("CELERY_BROKER_URL", "redis://:hidden@127.0.0.1:{port}/0"),
    ],
)
def test_a_given_server_that_does_not_answer_is_one_line(start: Callable[..., Run], setting: str, url: str) -> None:
    status, output, errors = start(**{setting: url.format(port=free_port())}).outcome()
    assert (status, output) == (1, "")
    assert re.fullmatch(rf"{setting}: no server answers at [^\n]*\n", errors)
    assert "hidden" not in errors
