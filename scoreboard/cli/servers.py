"""The start of most commands: settings with addresses, and connections to the servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from config import Settings, SettingsError
from scoreboard.live.connection import UNAVAILABLE as REDIS_UNAVAILABLE
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.local.errors import LocalServersError
from scoreboard.local.resolve import resolve_settings
from scoreboard.logs import configure_logging
from scoreboard.services.actions.catalogue import CatalogueError
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.fitness import DatabaseUnfitError
from scoreboard.store.refusals import ServerRefuses, explain

# A rebuild holds its lock on one connection and streams on it; the other serves the rest.
_POOL_SIZE = 3
# A script of a rebuild may wait for a busy server longer than a request would.
_TIMEOUT_S = 10.0


@contextmanager
def resolved_settings() -> Iterator[Settings]:
    """Settings whose servers are there; wrong settings and dead servers end the command with one clear line."""
    # A command's own words are its output; log lines of the services show only when something is wrong.
    configure_logging("WARNING")
    try:
        with resolve_settings(Settings.load()) as settings:
            yield settings
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except CatalogueError as error:
        click.echo(f"ACTION_CATALOGUE: {error}", err=True)
        sys.exit(2)
    except LocalServersError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except (DatabaseUnfitError, ServerRefuses) as error:
        click.echo(f"PostgreSQL (DATABASE_URL) can't be used: {explain(error)}", err=True)
        sys.exit(1)
    except POSTGRES_UNAVAILABLE as error:
        click.echo(f"PostgreSQL (DATABASE_URL) does not answer: {explain(error)}", err=True)
        sys.exit(1)
    except REDIS_UNAVAILABLE as error:
        click.echo(f"Redis (REDIS_URL) does not answer: {_first_line(error)}", err=True)
        sys.exit(1)


def open_database(settings: Settings) -> Database:
    assert settings.database_url is not None
    return Database(make_engine(settings.database_url, _POOL_SIZE, name="cli", pooler=settings.database_pooler))


def open_redis(settings: Settings) -> tuple[Standings, EventLog]:
    assert settings.redis_url is not None
    client = make_client(settings.redis_url, timeout_s=_TIMEOUT_S, max_connections=4)
    return Standings(client), EventLog(client)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
