"""``scoreboard.d.ts`` says what the module is, and what the documents say of it."""

from __future__ import annotations

import re
import subprocess

from config import ROOT
from frontend.build import FRONTEND, STATIC
from tests.unit.test_built_files import require_frontend_tools

DECLARED = (STATIC / "scoreboard.d.ts").read_text(encoding="utf-8")
DOCUMENTED = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")


def test_scripts_and_types_agree_with_each_other() -> None:
    """All scripts by their JSDoc, the declared types against them, and a site that uses the types."""
    require_frontend_tools()
    compiler = FRONTEND / "node_modules" / ".bin" / "tsc"
    done = subprocess.run(
        [compiler, "--project", FRONTEND], capture_output=True, text=True, timeout=60, check=False, cwd=FRONTEND
    )
    assert done.returncode == 0, done.stdout


def test_the_declared_events_are_the_documented_ones() -> None:
    interface = DECLARED.partition("export interface ScoreboardEvents {")[2].partition("\n}\n")[0]
    declared = re.findall(r'^  "?([a-z:]+)"?: ', interface, re.MULTILINE)
    table = DOCUMENTED.partition("## Events")[2].partition("\n## ")[0]
    assert declared == re.findall(r"^\| `([a-z:]+)` \|", table, re.MULTILINE)


def test_the_declared_options_are_the_documented_ones() -> None:
    interface = DECLARED.partition("export interface Options {")[2].partition("\n}\n")[0]
    declared = re.findall(r"^  (\w+)\?: ", interface, re.MULTILINE)
    table = DOCUMENTED.partition("## Options")[2].partition("\n## ")[0]
    assert declared == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
