"""A short run of `make bench-stream`, so that it can't rot; the figures of so short a run say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sse_reader import SeenEvent, SseReader, StreamError
from config import ROOT

CLIENTS = 100
# Three servers are started one after another, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)


def test_every_client_gets_every_version_of_each_server(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.stream", "--clients", str(CLIENTS), "--seconds", "2"]
    done = subprocess.run(
        [*command, "--output", str(output)], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert figures["isWhole"]
    runs = {(run["server"], run["with_api"]): run for run in figures["runs"]}
    assert runs.keys() == {
        ("scoreboard", False),
        ("scoreboard", True),
        ("bare loop", False),
        ("bare loop", True),
        ("flask-sse", False),
    }
    for run in runs.values():
        assert_measured(run)
    assert runs["scoreboard", True]["api_errors"] == 0
    assert runs["scoreboard", True]["api_requests"] > CLIENTS
    assert len(figures["goals"]) == 4
    assert "bare loop" in done.stdout


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
EVENTS = b'retry: 5\n\nid: 1:2\nevent: leaderboard:update\ndata: {"version":7}\n\nevent: heartbeat\ndata: {}\n\n'
SEEN = [SeenEvent("leaderboard:update", 7), SeenEvent("heartbeat", None)]


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("chunk", [0, 3, 50, 1000])
def test_the_reader_finds_events_however_they_are_cut(step: int, chunk: int) -> None:
    stream = HEAD + b"\r\n" + EVENTS
    if chunk:
        parts = [EVENTS[start : start + chunk] for start in range(0, len(EVENTS), chunk)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        stream = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body
    reader = SseReader()
    seen = [event for start in range(0, len(stream), step) for event in reader.feed(stream[start : start + step])]
    assert seen == SEEN
    assert reader.is_between_events


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_the_reader_tells_a_stream_from_what_is_none(answer: bytes) -> None:
    with pytest.raises(StreamError):
        SseReader().feed(answer)


def assert_measured(run: dict[str, Any]) -> None:
    assert (run["clients"], run["changes"]) == (CLIENTS, 2)
    assert (run["missed"], run["backwards"], run["closed"], run["problem"]) == (0, 0, 0, None)
    latency = run["latency"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert {"server", "load client", "redis", "publisher", "other"} <= run["cpu_s"].keys()
