"""A real contest, replayed by its real crowd while others watch.

The log stays outside the project: it is looked for beside the project, or where SCOREBOARD_CROWD_LOG says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from tests.functional.sse import SseClient, SseEvent

ROOT = Path(__file__).resolve().parents[2]
LOG_NAME = "icpc-shanghai-2024.jsonl"
# Five hours in one minute.
SPEED = 300
WATCHERS = 18
BOARD_EVENTS = ("leaderboard:initial", "leaderboard:update")
# One address carries everybody here, and each player's five hours pass in a minute: the limits stay, further up.
LIMITS = {
    "RATE_LIMIT_ANONYMOUS": "100000/hour",
    "RATE_LIMIT_READ": "10000/minute",
    "RATE_LIMIT_REQUEST": "600/minute",
    "RATE_LIMIT_COMPLETE": "20/second;600/minute",
    "RATE_LIMIT_STREAM": "1000/5 minutes",
    "MAX_STREAMS_PER_IP": "100",
}

pytestmark = [pytest.mark.crowd, pytest.mark.timeout(300)]


class Service(Protocol):
    """What this test needs to know of a running service."""

    @property
    def url(self) -> str: ...

    @property
    def settings_env(self) -> dict[str, str]: ...


@pytest.fixture(scope="module")
def crowd_log() -> Path:
    named = os.environ.get("SCOREBOARD_CROWD_LOG")
    path = Path(named) if named else ROOT.parent / "shared" / "data" / LOG_NAME
    if not path.is_file():
        pytest.skip(f"no event log at {path}; SCOREBOARD_CROWD_LOG may name one")
    return path


@pytest.fixture
def crowded_service(start_service: Callable[..., Service]) -> Service:
    return start_service(**LIMITS)


def test_the_board_is_the_contests_own_and_every_watcher_ends_on_it(
    crowded_service: Service, crowd_log: Path, tmp_path: Path
) -> None:
    solved = count_solved(crowd_log)
    report_path = tmp_path / "report.json"
    with ExitStack() as stack:
        watchers = [stack.enter_context(watch(crowded_service)) for _ in range(WATCHERS)]
        replay = stack.enter_context(replaying(crowded_service, crowd_log, report_path))
        leaver, *stayers = watchers
        wait_for_score(leaver, 3)
        late = stack.enter_context(watch(crowded_service))
        returning = come_back(stack, crowded_service, leaver)
        output = finish(replay)
        assert "board matches the log" in output
        report = json.loads(report_path.read_text(encoding="utf-8"))

        rows = read_board(crowded_service, len(solved))
        assert_board_is_the_contests(rows, report, solved)
        for watcher in (*stayers, late, returning):
            assert_ends_on(watcher, rows[:10])
        assert versions_of(leaver) == sorted(versions_of(leaver))
    verify = run_scoreboard(crowded_service, "verify")
    assert verify.returncode == 0, verify.stdout + verify.stderr


def count_solved(path: Path) -> Counter[str]:
    """Problems solved by each team, counted apart from the code under test."""
    entries = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    teams = [entry["team"] for entry in entries if entry["kind"] == "team"]
    solves = {
        (entry["team"], entry["problem"]) for entry in entries if entry["kind"] == "submission" and entry["accepted"]
    }
    counted = Counter(dict.fromkeys(teams, 0))
    counted.update(team for team, _ in solves)
    return counted


@contextmanager
def replaying(service: Service, log: Path, report: Path) -> Iterator[subprocess.Popen[str]]:
    """The replay in a process of its own, ended if the test does not see it through."""
    command = [sys.executable, "-m", "scoreboard", "replay", str(log), "--url", service.url, "--speed", str(SPEED)]
    with subprocess.Popen(
        [*command, "--report", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env=environment_of(service),
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finish(replay: subprocess.Popen[str]) -> str:
    """All it printed, a few dozen lines; fails unless it ended well."""
    # One minute of play; registration, outcomes and a busy machine may take as long again.
    output, _ = replay.communicate(timeout=200)
    assert replay.returncode == 0, output
    return output


def run_scoreboard(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scoreboard", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env=environment_of(service),
        timeout=60,
        check=False,
    )


def environment_of(service: Service) -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": "utf-8", **service.settings_env}


def watch(service: Service, last_event_id: str | None = None) -> SseClient:
    return SseClient(f"{service.url}/v1/leaderboard/stream", last_event_id=last_event_id)


def come_back(stack: ExitStack, service: Service, watcher: SseClient) -> SseClient:
    """The watcher leaves, misses some of it, and comes back with the id it saw last."""
    watcher.close()
    time.sleep(3)
    returning = stack.enter_context(watch(service, watcher.last_event_id))
    first = returning.wait_for(lambda event: event.event in BOARD_EVENTS)
    assert first.json()["version"] >= versions_of(watcher)[-1]
    return returning


def wait_for_score(watcher: SseClient, score: int) -> None:
    """Wait until somebody has that score: the replay is well under way then."""

    def is_reached(event: SseEvent) -> bool:
        return event.event in BOARD_EVENTS and any(row["score"] >= score for row in event.json()["leaderboard"])

    watcher.wait_for(is_reached, timeout=120)


def read_board(service: Service, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for offset in range(0, count, 100):
        answer = httpx.get(f"{service.url}/v1/leaderboard", params={"limit": 100, "offset": offset}, timeout=10)
        data = answer.raise_for_status().json()["data"]
        assert data["totalPlayers"] == count
        rows.extend(data["leaderboard"])
    return rows


def assert_board_is_the_contests(rows: list[dict[str, Any]], report: dict[str, Any], solved: Counter[str]) -> None:
    players = {player["userId"]: player for player in report["players"]}
    assert [row["rank"] for row in rows] == list(range(1, len(solved) + 1))
    assert {players[row["userId"]]["team"]: row["score"] for row in rows} == dict(solved)
    scorers = [row for row in rows if row["score"] > 0]
    in_order = sorted(scorers, key=lambda row: (-row["score"], reached_at(players[row["userId"]])))
    assert [row["userId"] for row in scorers] == [row["userId"] for row in in_order]


def reached_at(player: dict[str, Any]) -> datetime:
    """When the player's last counted action was accepted, as the service itself tells."""
    return max(datetime.fromisoformat(action["acceptedAt"]) for action in player["actions"])


def assert_ends_on(watcher: SseClient, top: list[dict[str, Any]]) -> None:
    """The watcher's last board is this one, and none of its boards was older than the one before."""
    wanted = [(row["rank"], row["userId"], row["score"]) for row in top]
    # Long over by now for all but a slow machine.
    watcher.wait_for(lambda event: event.event in BOARD_EVENTS and shown_by(event) == wanted, timeout=10)
    assert shown_by(watcher.named(*BOARD_EVENTS)[-1]) == wanted
    assert versions_of(watcher) == sorted(versions_of(watcher))
    assert not watcher.is_ended


def shown_by(event: SseEvent) -> list[tuple[int, str, int]]:
    return [(row["rank"], row["userId"], row["score"]) for row in event.json()["leaderboard"]]


def versions_of(watcher: SseClient) -> list[int]:
    return [event.json()["version"] for event in watcher.named(*BOARD_EVENTS)]
