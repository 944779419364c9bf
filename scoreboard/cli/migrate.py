"""``scoreboard migrate``."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from scoreboard.cli.servers import open_database, resolved_settings
from scoreboard.services.upkeep.housekeeping import make_partitions
from scoreboard.store.migrate import TABLES_WAIT_S, upgrade


@click.command()
def command() -> None:
    """Bring the database's tables up to date. Safe to run at any time, also twice at once."""
    with resolved_settings() as settings:
        assert settings.database_url is not None
        upgrade(settings.database_url)
        make_partitions(open_database(settings), datetime.now(UTC), wait_s=TABLES_WAIT_S)
    click.echo("The database is up to date.")
