"""``scoreboard rebuild``."""

from __future__ import annotations

import sys

import click

from scoreboard.cli.progress import progress_of
from scoreboard.cli.servers import open_database, open_redis, resolved_settings
from scoreboard.live.standings import RebuildOvertakenError
from scoreboard.services.boards.build import RebuildRunningError, rebuild_board


@click.command()
def command() -> None:
    """Fill the board in Redis again from PostgreSQL, which answers reads meanwhile."""
    with resolved_settings() as settings:
        standings, events = open_redis(settings)
        try:
            with progress_of(None, "accounts") as progress:
                written = rebuild_board(open_database(settings), standings, events, progress)
        except RebuildRunningError:
            click.echo("Another rebuild is in progress.", err=True)
            sys.exit(1)
        except RebuildOvertakenError:
            click.echo("Redis was emptied during the rebuild; run it again.", err=True)
            sys.exit(1)
    click.echo(f"The board is whole: {written} accounts written.")
