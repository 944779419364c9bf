"""``scoreboard seed``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import click
from flask import Flask
from tqdm import tqdm

from app import create_app, make_access_token
from scoreboard.cli.servers import open_database, open_redis, resolved_settings
from scoreboard.domain.accounts import check_password, normalise_username
from scoreboard.services.passwords import Passwords
from scoreboard.services.rebuild_board import rebuild_board
from scoreboard.services.seed import Seeded, seed_players
from scoreboard.store.migrate import upgrade


@click.command()
@click.option("--users", type=click.IntRange(1, 10_000_000), required=True, help="How many players to make.")
@click.option(
    "--tokens",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a line userId<TAB>accessToken for each player into this file.",
)
@click.option("--prefix", default="player", show_default=True, help="What their names begin with.")
@click.option("--password", default="seeded players only", show_default=True, help="The password they share.")
def command(users: int, tokens: Path | None, prefix: str, password: str) -> None:
    """Make many players at once, with tokens for load tests."""
    prefix = prefix.casefold()
    try:
        normalise_username(f"{prefix}-000000-000001")
        check_password(password)
    except ValueError as error:
        click.echo(f"--prefix or --password {error}", err=True)
        sys.exit(2)
    with resolved_settings() as settings:
        assert settings.database_url is not None
        upgrade(settings.database_url)
        database = open_database(settings)
        application = create_app(settings.model_copy(update={"log_level": "WARNING"})) if tokens else None
        batches = seed_players(
            database,
            Passwords(),
            count=users,
            prefix=prefix,
            password=password,
            session_ttl_s=settings.jwt_refresh_ttl_s,
        )
        with tqdm(total=users, unit=" players", disable=None) as progress:
            _write(batches, tokens, application, progress)
        standings, events = open_redis(settings)
        rebuild_board(database, standings, events)
    click.echo(f"Made {users} players" + (f"; their tokens are in {tokens}." if tokens else "."))


def _write(
    batches: Iterator[list[Seeded]], tokens: Path | None, application: Flask | None, progress: tqdm[NoReturn]
) -> None:
    with ExitStack() as closing:
        file = closing.enter_context(tokens.open("w", encoding="utf-8")) if tokens else None
        for batch in batches:
            if file and application:
                file.writelines(
                    f"{each.user_id}\t{make_access_token(application, each.user_id, each.session_id)}\n"
                    for each in batch
                )
            progress.update(len(batch))
