"""``scoreboard seed``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import click

from app import create_app, make_access_token
from config import Settings
from scoreboard.cli.progress import progress_of
from scoreboard.cli.seed_tokens import AccessTokens
from scoreboard.cli.servers import open_database, open_redis, resolved_settings
from scoreboard.domain.accounts import check_password, normalise_username
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.boards.build import rebuild_board
from scoreboard.services.upkeep.seed import Seeded, seed_players
from scoreboard.store.migrate import upgrade

# Several times what ten million players take.
_REBUILD_WAIT_S = 300.0


@click.command()
@click.option("--users", type=click.IntRange(1, 10_000_000), required=True, help="Number of players.")
@click.option(
    "--tokens",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a line userId<TAB>accessToken for each player into this file.",
)
@click.option("--prefix", default="player", show_default=True, help="Prefix of their names.")
@click.option("--password", default="seeded players only", show_default=True, help="Password of all of them.")
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
        batches = seed_players(
            database,
            Passwords(),
            count=users,
            prefix=prefix,
            password=password,
            session_ttl_s=settings.jwt_refresh_ttl_s,
        )
        with progress_of(users, "players") as progress:
            _write(batches, tokens, _signer(settings) if tokens else None, progress)
        standings, events = open_redis(settings)
        with progress_of(None, "accounts to the board") as progress:
            # A service that runs meanwhile has noticed that players are missing, and may be filling them in.
            rebuild_board(database, standings, events, progress, wait_s=_REBUILD_WAIT_S)
    click.echo(f"Made {users} players" + (f"; their tokens are in {tokens}." if tokens else "."))


def _signer(settings: Settings) -> AccessTokens:
    application = create_app(settings.model_copy(update={"log_level": "WARNING"}))
    return AccessTokens(make_access_token(application, uuid4(), uuid4()), settings)


def _write(
    batches: Iterator[list[Seeded]], tokens: Path | None, signer: AccessTokens | None, progress: Callable[[int], object]
) -> None:
    with ExitStack() as closing:
        file = closing.enter_context(tokens.open("w", encoding="utf-8")) if tokens else None
        for batch in _ahead(batches):
            if file and signer:
                file.writelines(
                    f"{player.user_id}\t{token}\n" for player, token in zip(batch, signer.sign(batch), strict=True)
                )
            progress(len(batch))


def _ahead(batches: Iterator[list[Seeded]]) -> Iterator[list[Seeded]]:
    """The same batches; PostgreSQL takes in the next one while this one's tokens are signed."""
    with ThreadPoolExecutor(1, "seed") as seeding:
        coming = seeding.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = seeding.submit(next, batches, None)
            yield batch
