"""``scoreboard keys``."""

from __future__ import annotations

import sys

import click
from cryptography.fernet import Fernet

from config import Settings, SettingsError

# Tokens live for minutes; three previous keys cover a rotation an hour with room to spare.
_KEEP = 3


@click.group()
def command() -> None:
    """Make and rotate the keys of action tokens."""


@command.command()
@click.option("--keep", type=click.IntRange(0, 10), default=_KEEP, show_default=True, help="Previous keys to keep.")
def rotate(keep: int) -> None:
    """Print ACTION_TOKEN_KEYS with a new key in front of the present ones.

    Set the printed value and restart. Tokens made with previous keys stay valid.
    """
    try:
        settings = Settings.load(environment="development")
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    keys = [Fernet.generate_key().decode(), *settings.action_token_keys[:keep]]
    click.echo("ACTION_TOKEN_KEYS=" + ",".join(keys))
