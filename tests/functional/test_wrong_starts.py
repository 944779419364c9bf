"""Every process ends at once, with a line that names the setting, when one of its settings is of no use."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from honcho.environ import parse_procfile

from config import ROOT, environment_with
from scoreboard.local.servers import free_port
from tests.service import Service, fresh_database

PROCFILE = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes
PROCESSES = {**PROCFILE, "cli": "python -m scoreboard verify", "run": "python -m scoreboard run"}
# A value that only its use shows to be wrong, and the processes that use it.
WRONG = {
    "JWT_PUBLIC_KEYS": ("x", list(PROCESSES)),
    "PROMETHEUS_MULTIPROC_DIR": ("/nowhere", ["worker", "beat"]),
    "ACTION_CATALOGUE": ("/nowhere.toml", ["web", "worker"]),
}


def start(name: str, service: Service, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        shlex.split(PROCESSES[name]),
        cwd=ROOT,
        env={**environment_with(**{**service.settings_env, "PORT": str(free_port()), **environment}), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_a_line_in_every_process(service: Service, setting: str) -> None:
    value, names = WRONG[setting]
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda name: start(name, service, **{setting: value}), names))
    for name, done in zip(names, ended, strict=True):
        said = (done.stdout + done.stderr).splitlines()
        assert (done.returncode, len(said)) == (2, 1), (name, said)
        assert said[0].startswith(f"{setting}: "), (name, said)


@pytest.mark.parametrize("command", ["verify", "rebuild", "retry"])
def test_a_database_without_tables_is_a_line_in_every_command(service: Service, command: str) -> None:
    done = service.run(command, DATABASE_URL=fresh_database(service.database_url))
    (line,) = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1
    assert line.startswith("PostgreSQL (DATABASE_URL) can't be used: ")
    assert "scoreboard migrate" in line


def test_servers_that_are_not_named_are_a_line_in_every_process(service: Service) -> None:
    for name in ("web", "worker"):
        done = start(name, service, DATABASE_URL="", REDIS_URL="")
        (line,) = (done.stdout + done.stderr).splitlines()
        assert line.startswith("DATABASE_URL and REDIS_URL are needed"), name


@pytest.mark.parametrize(("family", "names"), [(socket.AF_INET, ["web"]), (socket.AF_INET6, ["run"])])
def test_a_port_in_use_is_a_line(service: Service, family: socket.AddressFamily, names: list[str]) -> None:
    with socket.socket(family) as other:
        other.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for name in names:
            done = start(name, service, PORT=port)
            (line,) = (done.stdout + done.stderr).splitlines()
            assert done.returncode == (1 if name == "run" else 2), name
            assert line.startswith(f"PORT: {port} can't be used"), name
