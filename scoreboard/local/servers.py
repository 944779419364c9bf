"""Both local servers of one data folder."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from scoreboard.local import state
from scoreboard.local.errors import LocalServersError
from scoreboard.local.folder import hold_lock, make_data_folder, rotate, server_password
from scoreboard.local.placement import choose_placement
from scoreboard.local.postgres import PostgresServer
from scoreboard.local.process import ServerProcess
from scoreboard.local.software import Software
from scoreboard.local.valkey import ValkeyServer

# Below the range from which the kernel takes ports for outgoing connections (32768 upwards), so that none lands on a
# server's port while that server is being restarted.
_PORTS = range(15_000, 32_000)
_PORT_TRIES = 100


class LocalServers:
    """A context manager that starts PostgreSQL and Valkey on free ports of 127.0.0.1 and stops them at the end.

    ``postgres`` and ``valkey`` can be stopped, killed, frozen and started one by one, each on its port. Raises
    LocalServersError, whose message is one line; ServersBusyError when another process owns the folder's servers.
    """

    postgres: PostgresServer
    valkey: ValkeyServer

    def __init__(
        self,
        data_dir: Path,
        *,
        with_postgres: bool = True,
        with_valkey: bool = True,
        software: Software | None = None,
        announce: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._with_postgres = with_postgres
        self._with_valkey = with_valkey
        self._software = software
        self._announce = announce
        self._closing = contextlib.ExitStack()

    @property
    def database_url(self) -> str:
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    @property
    def addresses(self) -> state.ServerAddresses:
        """The addresses of the servers that were asked for."""
        return state.ServerAddresses(
            self.postgres.url if self._with_postgres else None,
            self.valkey.url if self._with_valkey else None,
        )

    @property
    def wanted(self) -> list[ServerProcess]:
        """The servers that were asked for."""
        choices = ((self.postgres, self._with_postgres), (self.valkey, self._with_valkey))
        return [server for server, is_wanted in choices if is_wanted]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            make_data_folder(self._data_dir)
            undo.enter_context(hold_lock(self._data_dir / "servers.lock"))
            state.stop_recorded_leftovers(self._data_dir)
            undo.callback(state.remove_servers_file, self._data_dir)
            self._prepare()
            for server in self.wanted:
                undo.callback(server.stop)
                server.start()
            self._closing = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def _prepare(self) -> None:
        placement = choose_placement(self._data_dir, self._software)
        if placement.notice:
            self._announce(placement.notice)
        password = server_password(placement.home)
        logs = {name: self._data_dir / "logs" / f"{name}.log" for name in ("postgres", "valkey")}
        for log in logs.values():
            rotate(log)
        self.postgres = PostgresServer(placement, password, logs["postgres"], free_port(), self._publish)
        self.valkey = ValkeyServer(placement, password, logs["valkey"], free_port(), self._publish)

    def _publish(self) -> None:
        """Write where the servers are: after each start, as a restarted one has another pid."""
        running = {server.name: server.pid for server in self.wanted if server.is_running}
        state.ServersFile(
            database_url=self.addresses.database_url,
            redis_url=self.addresses.redis_url,
            owner=state.this_process(),
            processes=state.trace_processes(running),
            ports={server.name: server.port for server in self.wanted},
        ).write(self._data_dir)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on; raises LocalServersError when a hundred tries find none."""
    for _ in range(_PORT_TRIES):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LocalServersError(f"no free port between {_PORTS.start} and {_PORTS.stop}")
