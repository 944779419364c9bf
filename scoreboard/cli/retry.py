"""``scoreboard retry``."""

from __future__ import annotations

import click

from scoreboard.cli.servers import open_database, resolved_settings
from scoreboard.services.actions.retry import retry_failed


@click.command()
def command() -> None:
    """Hand failed actions to the workers again. Remove the cause first."""
    with resolved_settings() as settings:
        retried = retry_failed(open_database(settings))
    click.echo(f"{retried} actions wait to be settled again.")
