"""A steady load of ordinary reads beside the streams, from a process of its own."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks.companion import Companion

RATE_PER_S = 100
PATH = "/v1/leaderboard"
# Connections that stay open, as a proxy's would; the kernel spreads them over the web processes.
_CONNECTIONS = 16
_TIMEOUT_S = 10.0
_STOP_WAIT_S = 2 * _TIMEOUT_S
_START_WAIT_S = 30.0  # a spawned interpreter imports this package on two busy cores


@dataclass(slots=True)
class Answers:
    """Latency of each request in ms, counted from when it was due, so that a late start counts as well."""

    latencies_ms: list[float] = field(default_factory=list)
    errors: int = 0


class ApiLoad(Companion):
    """A context manager; requests run from ``start`` to ``stop``."""

    def __init__(self, port: int) -> None:
        super().__init__("API load", _run, port)
        self.receive(_START_WAIT_S)

    def start(self) -> None:
        self.send("start")

    def stop(self) -> Answers:
        """Let the requests under way end; raises CompanionError when they don't."""
        self.send("stop")
        answers: Answers = self.receive(_STOP_WAIT_S)
        return answers


def _run(pipe: Connection, port: int) -> None:
    pipe.send(True)
    try:
        while pipe.recv() == "start":
            stopping = threading.Event()
            started_at = time.monotonic()
            all_answers = [Answers() for _ in range(_CONNECTIONS)]
            threads = [
                threading.Thread(target=_request, args=(port, started_at, number, answers, stopping), daemon=True)
                for number, answers in enumerate(all_answers)
            ]
            for thread in threads:
                thread.start()
            pipe.recv()
            stopping.set()
            for thread in threads:
                thread.join(_TIMEOUT_S)
            latencies = [latency for answers in all_answers for latency in answers.latencies_ms]
            pipe.send(Answers(latencies, sum(answers.errors for answers in all_answers)))
    except (EOFError, KeyboardInterrupt):
        return


def _request(port: int, started_at: float, number: int, answers: Answers, stopping: threading.Event) -> None:
    """One connection's share: every n-th request of an even rhythm."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    due_at = started_at + number / RATE_PER_S
    while not stopping.wait(max(0.0, due_at - time.monotonic())):
        try:
            connection.request("GET", PATH)
            response = connection.getresponse()
            response.read()
            is_good = response.status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            connection.close()
            is_good = False
        if is_good:
            answers.latencies_ms.append((time.monotonic() - due_at) * 1000)
        else:
            answers.errors += 1
        due_at += _CONNECTIONS / RATE_PER_S
    connection.close()
