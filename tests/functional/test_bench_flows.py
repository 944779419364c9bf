"""A short run of `make bench`, so that it can't rot; the figures of so short a run say nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.companion import CompanionError
from benchmarks.flow_wire import Issued, Player, WireError, body_of
from benchmarks.load_client import Closed, LoadClient
from benchmarks.report import Latency
from benchmarks.report_flows import KINDS, FlowRun, goals
from config import ROOT
from scoreboard.domain.actions import Proof, proof_checksum

# Two variants are started one after the other, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)

ISSUED = b'{"success":true,"data":{"actionId":"a-1","actionToken":"t-1","proofKey":"k-1"}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
TOKENS = "11111111-1111-1111-1111-111111111111\ttoken-1\n"


def test_every_flow_is_applied_in_both_variants(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.flows", "--connections", "4,8", "--seconds", "2", "--players", "2000"]
    done = subprocess.run(
        [*command, *(f"--only={part}" for part in ("closed", "next", "open", "naive")), "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(output.read_text(encoding="utf-8"))
    assert figures["isWhole"]
    runs = figures["runs"]
    assert [(run["server"], run["loop"]) for run in runs] == [
        *(("ours", "closed") for _ in range(3)),
        ("ours", "next"),
        ("ours", "open"),
        ("naive", "closed"),
    ]
    assert [run["connections"] for run in runs[:2]] == [4, 8]
    for run in runs:
        assert_measured(run)
    # A few flows of one run may cost less than the kernel counts.
    assert sum(run["cpu_us"]["load"] for run in runs) > 0
    with_next, half = runs[3], runs[4]
    assert with_next["states"]["issued"] > 0
    assert half["rate"] == pytest.approx(max(run["flows_per_s"] for run in runs[:3]) / 2, abs=0.1)
    assert (half["events"] > 0, half["missed"]) == (True, 0)
    assert half["event"]["max"] > 0
    assert [(each["server"], each["is_well"]) for each in figures["verified"]] == [("ours", True), ("naive", True)]
    assert len(figures["goals"]) == 9
    assert "µs of CPU per flow" in done.stdout


def assert_measured(run: dict[str, Any]) -> None:
    assert run["completed"] >= run["in_time"] > 0
    assert run["states"]["applied"] == run["completed"]
    # Where completions bring the next action along, the last ones leave it open.
    assert run["states"].keys() <= {"applied", *(["issued"] if run["loop"] == "next" else [])}
    assert 0 < run["flows_per_s"] <= run["completed"] / run["seconds"] + 0.1
    for kind in (*([] if run["loop"] == "next" else ["request"]), "complete", "settled"):
        latency = run[kind]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"], kind
    assert run["cpu_s"].keys() == set(KINDS) - ({"beat"} if run["server"] == "naive" else set())
    assert run["cpu_us"]["web"] > run["cpu_us"]["load"]


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(b"429 TOO MANY REQUESTS", "429 TOO MANY"), (b"202 ACCEPTED", "200 was expected"), (b"", "closed a connection")],
)
def test_an_answer_that_was_not_asked_for_ends_the_run(tmp_path: Path, status: bytes, complaint: str) -> None:
    tokens = tmp_path / "tokens.tsv"
    tokens.write_text(TOKENS, encoding="utf-8")
    answer = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status if status else b""
    with answering(answer) as port, LoadClient(port, tokens, [os.getpid()]) as client:
        client.start(Closed(2, 30))
        with pytest.raises(CompanionError, match=complaint):
            client.finish()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that gives each of two connections this one answer, or hangs up."""
    with ExitStack() as closing:
        listener = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(60)

        def serve() -> None:
            # Both are accepted before either is answered: the client waits until it has found who holds them.
            for connection in [closing.enter_context(listener.accept()[0]) for _ in range(2)]:
                connection.settimeout(60)
                connection.recv(65_536)
                if answer:
                    connection.sendall(answer)
                else:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        closing.callback(thread.join, 90)
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length"])
def test_an_answer_counts_when_all_of_it_is_there(name: bytes) -> None:
    answer = (HEAD % len(ISSUED) + ISSUED).replace(b"Content-Length", name)
    assert [body_of(answer[:end], b"200") for end in range(len(answer))] == [None] * len(answer)
    assert body_of(answer, b"200") == ISSUED


@pytest.mark.parametrize(
    "answer",
    [
        HEAD.replace(b"200", b"500") % 0,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD % 1 + b"{}",
    ],
)
def test_another_answer_is_none(answer: bytes) -> None:
    with pytest.raises(WireError):
        body_of(answer, b"200")


def test_a_completion_carries_the_proof_that_the_service_asks_for() -> None:
    player = Player(8000, "user", "token-1")
    head, _, body = player.completion(Issued.requested(ISSUED), 7).partition(b"\r\n\r\n")
    assert b"Authorization: Bearer token-1\r\n" in head
    assert head.endswith(b"Content-Length: %d" % len(body))
    checksum = proof_checksum("k-1", "a-1", Proof(7, ""))
    assert json.loads(body) == {
        "actionId": "a-1",
        "actionToken": "t-1",
        "proof": {"completionTime": 7, "checksum": checksum},
    }


def test_a_completion_may_ask_for_the_next_action_and_the_answer_must_hold_it() -> None:
    player = Player(8000, "user", "token-1")
    _, _, body = player.completion(Issued.requested(ISSUED), 7, asks_for_next=True).partition(b"\r\n\r\n")
    assert json.loads(body)["next"]["actionType"] == "SOLVE_PROBLEM"
    token = b'{"actionId":"a-2","actionToken":"t-2","proofKey":"k-2"}'
    brought = Issued.next_of(b'{"data":{"status":"accepted","next":%b}}' % token)
    assert (brought.action_id, brought.token, brought.proof_key) == (b"a-2", b"t-2", b"k-2")
    for answer in (b'{"data":{"status":"accepted"}}', b'{"data":{"next":{"error":{"code":"RATE_LIMIT_EXCEEDED"}}}}'):
        with pytest.raises(WireError, match="no next action"):
            Issued.next_of(answer)


def made_up_run(**changes: Any) -> FlowRun:
    latency = Latency(1.0, 2.0, 3.0, 4.0)
    values: dict[str, Any] = {
        "server": "ours",
        "loop": "closed",
        "rate": None,
        "connections": 64,
        "seconds": 60.0,
        "in_time": 90_000,
        "completed": 90_064,
        "request": latency,
        "complete": latency,
        "settled": latency,
        "events": 0,
        "event": None,
        "missed": 0,
        "board_events": 0,
        "backlog": [50, 60, 40, 70],
        "drained_s": 0.1,
        "states": {"applied": 90_064},
        "cpu_s": {"web": 60.0, "other": 1.0},
    }
    return FlowRun(**values | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"states": {"applied": 90_063}},
        {"states": {"applied": 90_064, "issued": 1}},
        {"states": {"applied": 90_063, "held": 1}},
        {"missed": 1},
        {"drained_s": None},
    ],
)
def test_a_run_is_whole_when_each_flow_was_applied_and_told(changes: dict[str, Any]) -> None:
    assert made_up_run().is_whole
    assert not made_up_run(**changes).is_whole


def test_actions_that_the_last_completions_brought_may_be_open() -> None:
    assert made_up_run(loop="next", states={"applied": 90_064, "issued": 3}).is_whole
    assert not made_up_run(loop="next", states={"applied": 90_063, "issued": 3}).is_whole


def test_a_flow_counts_when_it_is_settled() -> None:
    run = made_up_run(server="naive", completed=30_000, states={"applied": 30_000}, drained_s=40.0)
    assert (run.accepted_per_s, run.flows_per_s) == (1_500.0, 300.0)
    met = {goal.what: goal.is_met for goal in goals([made_up_run(), run])}
    assert met["flows per second, times the naive variant's"]
    assert all(met.values())


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"completed": 71_000}, "flows per second at 64 connections"),
        ({"complete": Latency(1, 100.1, 101, 102)}, "complete at 64 connections, p95 in ms"),
        ({"backlog": [50, 500, 900, 1_400]}, "growth of the backlog at 64 connections"),
    ],
)
def test_each_goal_can_be_missed(changes: dict[str, Any], missed: str) -> None:
    assert [goal.what for goal in goals([made_up_run(**changes)]) if not goal.is_met] == [missed]
