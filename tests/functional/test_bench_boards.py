"""A short run of the boards' benchmark, so that it can't rot; the figures of so short a run say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from config import ROOT

# A service is started and its commands are run, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)
CALLS = {"top", "page far down", "own rank", "around me", "settle 1", "settle 200"}


def test_boards_are_filled_called_seeded_and_refilled(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.boards", "--players", "200,2000", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--output", str(output)], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert figures["isRight"]
    assert [each["players"] for each in figures["filled"]] == [200, 2_000]
    assert all(each["bytes_per_player"] > 24 for each in figures["filled"])
    assert {(each["call"], each["players"]) for each in figures["calls"]} == {
        (call, players) for call in CALLS for players in (200, 2_000)
    }
    assert all(each["wall_us"] > 0 and each["client_us"] > 0 for each in figures["calls"])
    assert (figures["seeded"]["players"], figures["rebuilt"]["players"]) == (2_000, 2_000)
    assert figures["rebuilt"]["problem"] is None
    assert figures["rebuilt"]["read_errors"] == 0
    for name in ("reads_before", "reads", "writes_before"):
        assert 0 < figures["rebuilt"][name]["p50"] <= figures["rebuilt"][name]["p95"]
    assert len(figures["goals"]) == len(CALLS) + 2
    assert "bytes each" in done.stdout
