"""The processes are started in three places by the same words."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for two lines
from honcho.environ import parse_procfile

from config import ROOT, Settings
from scoreboard.cli import COMMANDS, main

PROCESSES: dict[str, str] = parse_procfile((ROOT / "Procfile").read_text()).processes


def test_the_procfile_names_the_four_processes() -> None:
    assert list(PROCESSES) == ["release", "web", "worker", "beat"]


@pytest.mark.parametrize("name", PROCESSES)
def test_compose_starts_the_same_processes(name: str) -> None:
    assert f"    command: {PROCESSES[name]}\n" in (ROOT / "deploy/compose.yaml").read_text()


def test_the_image_starts_the_web_process() -> None:
    last_line = (ROOT / "Dockerfile").read_text().splitlines()[-1]
    assert json.loads(last_line.removeprefix("CMD ")) == shlex.split(PROCESSES["web"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_exists_and_says_what_it_does(name: str) -> None:
    command = main.get_command(main.make_context("scoreboard", [name, "--help"], resilient_parsing=True), name)
    assert command is not None
    assert command.help


COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
# Inside the containers these are as they are.
FIXED = {
    "PORT": "the host's is published",
    "BIND": "a container listens on all its addresses",
    "SCOREBOARD_DATA": "of `scoreboard run` alone",
    "PROMETHEUS_MULTIPROC_DIR": "gunicorn makes one in /tmp",
}


@pytest.mark.parametrize("name", ["release", "web", "worker", "beat"])
def test_compose_passes_every_setting_on(name: str) -> None:
    passed = set(COMPOSE["services"][name]["environment"])
    assert passed == {field.upper() for field in Settings.model_fields} - set(FIXED)
    # What is set on the host arrives: no name is another's.
    for key, value in COMPOSE["services"][name]["environment"].items():
        assert key in {"ENVIRONMENT", "ACTION_CATALOGUE"} or value.startswith(f"${{{key}:"), key


def test_compose_has_a_place_for_a_catalogue() -> None:
    web = COMPOSE["services"]["web"]
    assert any(each.endswith(f":{web['environment']['ACTION_CATALOGUE']}:ro") for each in web["volumes"])


def test_compose_names_only_services_that_it_has() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
