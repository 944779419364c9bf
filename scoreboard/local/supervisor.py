"""The processes of the Procfile: started together, their lines collected, and all stopped when one ends."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

from scoreboard.local.process import KILL_WAIT_S, POLL_S, spawn

# Longer than gunicorn's graceful time-out (10 s) and than a worker needs for its batch; what is cut off after that is
# settled later, from PostgreSQL.
STOP_WAIT_S = 15.0
TAIL_LINES = 12  # enough for the end of a traceback, and still one look
LINE_BYTES = 65_536  # a longer line is cut in two, so that one without an end can't fill the memory
LOG_BYTES = 20_000_000  # then the log starts anew; one previous file is kept


@dataclass
class Child:
    """A running process of the Procfile and the last lines it wrote."""

    name: str
    process: subprocess.Popen[bytes]
    tail: deque[str]
    reader: threading.Thread


class Supervisor:
    """Starts commands, hands each line they write to ``sink``, and stops them all within a bound."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        self._sink = sink
        self._children: list[Child] = []

    def start(self, name: str, command: str, *, env: Mapping[str, str], cwd: Path) -> None:
        """Start a line of the Procfile: one simple command, in which the shell fills in variables."""
        process = spawn(
            ["/bin/sh", "-c", f"exec {command}"],
            # Asks for an orderly end when this process is killed; gunicorn and Celery take their own children along.
            death_signal=signal.SIGTERM,
            env=env,
            cwd=cwd,
            output=subprocess.PIPE,
        )
        if process.stdout is None:
            raise RuntimeError("spawned without a pipe")
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        reader = threading.Thread(target=self._collect, args=(name, process.stdout, tail), daemon=True)
        reader.start()
        self._children.append(Child(name, process, tail, reader))

    def pids(self) -> dict[str, int]:
        """The process of each child by its name; what it started in turn is below it."""
        return {child.name: child.process.pid for child in self._children}

    def forget_ended(self, name: str) -> None:
        """Make room for a new child of this name, the last one having ended; what that one started may still run."""
        self._children = [child for child in self._children if child.name != name or child.process.poll() is None]

    def ended(self) -> Child | None:
        """The first child found to have ended, with all its lines collected; None while every one runs."""
        for child in self._children:
            if child.process.poll() is not None:
                child.reader.join(1.0)  # its own children may hold the pipe open
                return child
        return None

    def stop(self) -> None:
        """Ask every child to end, and kill what is left of their families when the time is over."""
        running = [child for child in self._children if child.process.poll() is None]
        for child in running:
            child.process.terminate()
        deadline = time.monotonic() + STOP_WAIT_S
        while time.monotonic() < deadline and any(child.process.poll() is None for child in running):
            time.sleep(POLL_S)
        for child in self._children:
            # Each child leads a group of its own; one without members is gone.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)
        for child in self._children:
            child.process.wait(KILL_WAIT_S)
            child.reader.join(KILL_WAIT_S)
        self._children.clear()

    def _collect(self, name: str, stream: IO[bytes], tail: deque[str]) -> None:
        with stream:
            while raw := stream.readline(LINE_BYTES):
                line = raw.decode(errors="replace").rstrip("\r\n")
                if line.strip():
                    tail.append(line)
                self._sink(f"{name:<6} | {line}")


class _LogFile(RotatingFileHandler):
    """Says once in a minute that it can't write, instead of a traceback for each line it loses."""

    _SAY_EVERY_S = 60.0
    _said_at = float("-inf")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  # the logging module's
        if time.monotonic() - self._said_at >= self._SAY_EVERY_S:
            self._said_at = time.monotonic()
            print(f"{self.baseFilename} can't be written, lines are lost: {sys.exc_info()[1]}", file=sys.stderr)


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[Callable[[str], None]]:
    """A function that appends lines to a new log file of bounded size, from any thread."""
    handler = _LogFile(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    if path.stat().st_size:
        handler.doRollover()

    def write(line: str) -> None:
        handler.handle(logging.makeLogRecord({"msg": line}))

    try:
        yield write
    finally:
        handler.close()
