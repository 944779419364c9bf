"""Child processes that don't outlive this one, and don't hear the terminal's Ctrl-C before it does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

GUARD = Path(__file__).with_name("guard.py")
# The kernel sends the parent-death signal when the forking *thread* ends, so one thread that lives as long as this
# process forks every child: a test may restart a server from a thread that is gone a moment later.
_FORKING_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fork")
# After SIGKILL only the kernel's own clean-up is left; longer means a process stuck in a device.
KILL_WAIT_S = 10.0
POLL_S = 0.02  # between two looks at a process that is starting or ending


@dataclass(frozen=True)
class User:
    """The account a server runs under."""

    name: str
    uid: int
    gid: int


def spawn(
    command: Sequence[str],
    *,
    death_signal: signal.Signals,
    user: User | None = None,
    env: Mapping[str, str],
    cwd: Path,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own; it gets ``death_signal`` when this process ends in any way."""
    uid, gid = (user.uid, user.gid) if user else (-1, -1)
    guarded = [sys.executable, "-I", "-S", str(GUARD), *map(str, (int(death_signal), uid, gid, os.getpid())), *command]

    def fork() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            guarded,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT if output != subprocess.DEVNULL else output,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )

    return _FORKING_THREAD.submit(fork).result()


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants, parent first; empty when it is gone."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(processes: Sequence[psutil.Process], sig: signal.Signals) -> None:
    """Signal each process that still exists (psutil checks that the pid was not given to another one)."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(sig)


def wait_until_gone(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for the processes to end; those that haven't in time.

    A zombie has ended: a container may have no process that collects it.
    """
    deadline = time.monotonic() + timeout_s
    alive = list(processes)
    while alive and (alive := [process for process in alive if _is_alive(process)]):
        if time.monotonic() > deadline:
            return alive
        time.sleep(POLL_S)
    return []


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class ServerProcess:
    """A server that can be stopped, killed, frozen and started again on the same port."""

    name: str
    stop_signal: signal.Signals
    stop_wait_s: float

    def __init__(self, log_path: Path, port: int, on_start: Callable[[], None]) -> None:
        self.log_path = log_path
        self.port = port
        self._on_start = on_start
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of the server; raises RuntimeError when it was never started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers; raises LocalServersError with the log file's name."""
        if not self.is_running:
            self._launch()
            self._on_start()

    def stop(self) -> None:
        """Ask it to stop; kill it when it hasn't within its bound."""
        if self._process is None or self._process.poll() is not None:
            return
        send(family(self._process.pid), signal.SIGCONT)  # a frozen server would not hear the request
        send([psutil.Process(self._process.pid)], self.stop_signal)
        try:
            self._process.wait(self.stop_wait_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and its children at once, as a power cut would."""
        if self._process is not None:
            members = family(self._process.pid)
            send(members, signal.SIGKILL)
            self._process.wait(KILL_WAIT_S)
            wait_until_gone(members, KILL_WAIT_S)

    def freeze(self) -> None:
        """Stop the whole family in its tracks: connections stay open and nothing answers."""
        send(family(self.pid), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        send(family(self.pid), signal.SIGCONT)

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to the server's main process."""
        send(family(self.pid)[:1], sig)

    def _launch(self) -> None:
        raise NotImplementedError
