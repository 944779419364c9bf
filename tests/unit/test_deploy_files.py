"""The processes are started in three places by the same words."""

from __future__ import annotations

import json
import shlex

import pytest
from honcho.environ import parse_procfile

from config import ROOT
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
