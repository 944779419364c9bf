"""The files that the image is built from, by .dockerignore: all that a container runs are among them."""

from __future__ import annotations

import re

import pytest

from config import ROOT

LISTED = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
# Where a container's commands stand, and a build's COPY.
COMMANDS = "\n".join(
    (ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile", "deploy/compose.yaml", "Procfile")
)
RUN = re.findall(r"\bdeploy/[\w.]+\.py\b", COMMANDS)
COPIED = re.findall(r"^COPY (requirements\S+)", COMMANDS, re.MULTILINE)


def test_the_commands_were_found() -> None:
    assert {"deploy/gunicorn.conf.py", "deploy/probe.py"} <= set(RUN)
    assert {"requirements.txt", "requirements/pip.txt"} == set(COPIED)


@pytest.mark.parametrize("path", sorted({*RUN, *COPIED, "app.py", "config.py", "scoreboard", "workers", "Procfile"}))
def test_the_image_holds_what_its_containers_run(path: str) -> None:
    assert path in LISTED
    assert (ROOT / path).exists()


def test_the_image_is_given_nothing_that_does_not_exist() -> None:
    assert [path for path in LISTED if not (ROOT / path).exists()] == []
