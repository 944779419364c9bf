"""A real PgBouncer in front of a PostgreSQL, as Debian packages it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from scoreboard.local.placement import SERVER_ENV, choose_placement
from scoreboard.local.process import KILL_WAIT_S, spawn
from scoreboard.local.servers import free_port
from tests.service import open_folder

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
_START_WAIT_S = 30.0
# Everything else is as it comes; 20 server connections to a database and role are its default.
_CONFIG = """\
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = {mode}
"""


@contextmanager
def pgbouncer(server_url: str, mode: str) -> Iterator[int]:
    """Its port; it pools connections to that server by ``session`` or by ``transaction``."""
    assert PROGRAM, "pgbouncer is not installed"
    server = sa.make_url(server_url)
    with open_folder() as folder:
        port = free_port()
        users, config, log = folder / "users.txt", folder / "pgbouncer.ini", folder / "log"
        users.write_text(f'"{server.username}" "{server.password}"\n')
        config.write_text(_CONFIG.format(server_port=server.port, port=port, users=users, mode=mode))
        user = choose_placement(folder).user
        with log.open("ab") as output:
            process = spawn(
                [PROGRAM, str(config)],
                death_signal=signal.SIGKILL,
                user=user,
                env=SERVER_ENV,
                cwd=Path("/"),
                output=output,
            )
        try:
            _wait_until_it_listens(port, process, log)
            yield port
        finally:
            process.kill()
            process.wait(KILL_WAIT_S)


def through(port: int, url: str) -> str:
    """The same database, by way of the pooler."""
    return sa.make_url(url).set(port=port).render_as_string(hide_password=False)


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"pgbouncer did not start:\n{log.read_text()}")
