"""The two servers of a comparison, and how to speak to one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from config import ROOT, environment_with
from scoreboard.local.servers import free_port

START_WAIT_S = 30.0
# A loaded machine needs some seconds; a server that waits for ever needs more.
ANSWER_WAIT_S = 20.0
# The start asks for them; the echo has no use for them.
UNUSED = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
OURS = "scoreboard.web.server.worker.StreamWorker"
GUNICORNS = "tests.loops.reference.ReferenceWorker"


@dataclass
class Server:
    """One gunicorn with one worker, on the deployment's own settings."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_WAIT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def exchange(self, *pieces: bytes) -> bytes:
        """Send these, each by itself, then the end; all that comes back until the server closes."""
        with self.connect() as connection:
            # It may refuse and close before it has seen everything.
            with suppress(OSError):
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
            return receive_all(connection)


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    with suppress(OSError):
        while data := connection.recv(65_536):
            received += data
    return received


@contextmanager
def running(worker_class: str, folder: Path, *options: str) -> Iterator[Server]:
    """A gunicorn with these options more, killed at the end."""
    port = free_port()
    log = folder / f"{worker_class.rpartition('.')[2]}-{port}.log"
    command = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "--workers", "1",
               "--bind", f"127.0.0.1:{port}", "--worker-class", worker_class, *options,
               "tests.loops.echo:application"]  # fmt: skip
    with log.open("wb") as output:
        # A group of its own, so that the worker goes with its arbiter.
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment_with(**UNUSED), stdout=output, stderr=output, start_new_session=True
        )
    server = Server(process, port, log)
    try:
        _wait_until_up(server)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_WAIT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        # What it says doesn't matter (it may speak TLS), only that there is a worker to say it.
        with suppress(OSError):
            server.exchange(b"GET / HTTP/1.0\r\n\r\n")
            return
        time.sleep(0.05)
    raise RuntimeError(server.log.read_text())
