"""A hot standby of a running PostgreSQL: a base backup that streams what the primary writes from then on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import sqlalchemy as sa

from scoreboard.local import LocalServers
from scoreboard.local.placement import SERVER_ENV, choose_placement
from scoreboard.local.postgres import NAME, PostgresServer
from scoreboard.local.process import spawn
from scoreboard.local.servers import free_port
from tests.servers import asked_releases
from tests.service import open_folder

_BACKUP_WAIT_S = 60.0


class Standby(PostgresServer):
    """Made of the primary on its first start."""

    def __init__(self, primary_url: str, folder: Path) -> None:
        asked = asked_releases()
        placement = choose_placement(folder, asked.software if asked else None)
        self._primary = sa.make_url(primary_url)
        super().__init__(placement, str(self._primary.password), folder / "standby.log", free_port(), lambda: None)

    def url_of(self, primary_url: str) -> str:
        """The same database, here."""
        return sa.make_url(primary_url).set(port=self.port).render_as_string(hide_password=False)

    def promote(self) -> None:
        """Make it a primary; returns when it takes writes."""
        connection = psycopg2.connect(self.url)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_promote()")
        connection.close()

    def _make_cluster(self) -> None:
        dsn = f"host=127.0.0.1 port={self._primary.port} user={NAME} password={self._primary.password}"
        program = str(self._bin / "pg_basebackup")
        backup = [program, "-D", str(self.folder), "-d", dsn, "-R", "-X", "stream", "-c", "fast"]
        with self.log_path.open("ab") as log:
            process = spawn(
                backup, death_signal=signal.SIGTERM, user=self._user, env=SERVER_ENV, cwd=Path("/"), output=log
            )
        assert process.wait(_BACKUP_WAIT_S) == 0, self.log_path.read_text()


@contextmanager
def standby_of(primary: LocalServers) -> Iterator[Standby]:
    with open_folder() as folder:
        folder.chmod(0o777)  # the servers' own user makes its data folder in it
        standby = Standby(primary.database_url, folder)
        try:
            standby.start()
            yield standby
        finally:
            standby.kill()
