"""The file ``servers.json``: which local servers run for this data folder, where, and since when."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
from pydantic import BaseModel, ValidationError

from scoreboard.local.errors import LocalServersError
from scoreboard.local.folder import write_private
from scoreboard.local.process import KILL_WAIT_S, send, wait_until_gone

_FILE = "servers.json"
_CONNECT_WAIT_S = 1.0  # to a port of this machine


@dataclass(frozen=True)
class ServerAddresses:
    """Where the local servers answer; None for one that was not started."""

    database_url: str | None
    redis_url: str | None


class Trace(BaseModel):
    """A process; the time of its start tells it from a later one with the same pid."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(pid=pid, started_at=psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, or None when it ended (a zombie has)."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            # psutil computes the time from clock ticks of 10 ms.
            same = abs(process.create_time() - self.started_at) < 0.02
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


class ServersFile(BaseModel):
    """What ``servers.json`` holds."""

    database_url: str | None
    redis_url: str | None
    owner: Trace
    processes: dict[str, Trace]
    ports: dict[str, int]

    def write(self, data_dir: Path) -> None:
        write_private(data_dir / _FILE, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, data_dir: Path) -> Self | None:
        try:
            return cls.model_validate_json((data_dir / _FILE).read_bytes())
        except (OSError, ValidationError):
            return None

    @property
    def is_serving(self) -> bool:
        """Whether the owner and every wanted server are alive and accept connections."""
        traces = [self.owner, *self.processes.values()]
        return (
            self.processes.keys() == self.ports.keys()
            and all(trace.find() for trace in traces)
            and all(map(_accepts_connections, self.ports.values()))
        )


def trace_processes(pids: Mapping[str, int]) -> dict[str, Trace]:
    """A trace of each process, and of this one as their owner."""
    return {name: Trace.of(pid) for name, pid in pids.items()}


def this_process() -> Trace:
    return Trace.of(os.getpid())


def remove_servers_file(data_dir: Path) -> None:
    (data_dir / _FILE).unlink(missing_ok=True)


def running_servers(data_dir: Path) -> ServerAddresses | None:
    """The servers that a process runs on this data folder; None unless all of them are alive."""
    found = ServersFile.read(data_dir.resolve())
    if found is None or not found.is_serving:
        return None
    return ServerAddresses(found.database_url, found.redis_url)


def stop_recorded_leftovers(data_dir: Path) -> None:
    """Stop the servers that a killed owner left behind; call it with the folder's lock held."""
    found = ServersFile.read(data_dir)
    if found is None:
        return
    leftovers = [process for trace in found.processes.values() if (process := trace.find())]
    send(leftovers, signal.SIGCONT)
    # SIGINT ends both well: PostgreSQL's fast shutdown; Valkey has nothing to save.
    send(leftovers, signal.SIGINT)
    alive = wait_until_gone(leftovers, KILL_WAIT_S)
    send(alive, signal.SIGKILL)
    alive = wait_until_gone(alive, KILL_WAIT_S)
    if alive:
        raise LocalServersError(f"process {alive[0].pid} of an earlier run can't be stopped")
    remove_servers_file(data_dir)


def _accepts_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _CONNECT_WAIT_S):
        return True
    return False
