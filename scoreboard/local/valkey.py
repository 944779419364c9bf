"""One Valkey server without persistence: PostgreSQL is the truth, and fills it again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis

from scoreboard.local.errors import LocalServersError
from scoreboard.local.placement import SERVER_ENV, Placement
from scoreboard.local.process import POLL_S, ServerProcess, spawn

START_WAIT_S = 15.0  # it has nothing to load
# noeviction: an evicted standing would be a wrong board, a refused write is noticed and made up for.
# 512 MB: a million players' standings are about 185 MB, the rest is broker, limits and event history.
_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 512mb
maxmemory-policy noeviction
logfile ""
"""


# Freeing a board of a million players in the background held every other command up for 0.3 s while glibc kept small
# pieces on lists of their own; without those lists it is 5 ms.
_ENV = {**SERVER_ENV, "GLIBC_TUNABLES": "glibc.malloc.mxfast=0"}


class ValkeyServer(ServerProcess):
    """A valkey-server that reads its settings, and so the password, from standard input."""

    name = "Valkey"
    stop_signal = signal.SIGTERM
    stop_wait_s = 10.0  # it saves nothing

    def __init__(
        self, placement: Placement, password: str, log_path: Path, port: int, on_start: Callable[[], None]
    ) -> None:
        super().__init__(log_path, port, on_start)
        self._program = placement.software.valkey_server
        self._user = placement.user
        self._password = password

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def _launch(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = spawn(
                [str(self._program), "-"],
                death_signal=self.stop_signal,
                user=self._user,
                env=_ENV,
                cwd=Path("/"),
                stdin=subprocess.PIPE,
                output=log,
            )
        self._hand_over_settings(self._process)
        self._wait_until_ready()

    def _hand_over_settings(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None:
            raise RuntimeError("spawned without a pipe")
        # A pipe holds these few lines whether or not the server gets to read them; one that ended is found below.
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(_CONFIG.format(port=self.port, password=self._password).encode())

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_WAIT_S
        with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
            while self.is_running and time.monotonic() < deadline:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.TimeoutError):
                    time.sleep(POLL_S)
        reason = f"did not answer within {START_WAIT_S:.0f} s" if self.is_running else "ended while starting"
        self.kill()
        raise LocalServersError(f"Valkey {reason}; see {self.log_path}")
