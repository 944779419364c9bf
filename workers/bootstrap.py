"""Builds the components of a worker process, after the fork, on first use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import redis

from config import Settings
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.actions.catalogue import Catalogue, load_catalogue
from scoreboard.store.engine import Database, make_engine

# One connection to work with, one to hold the rebuilder's lock.
_POOL_SIZE = 2
# For single statements: a task runs one at a time.
_AUTOCOMMIT_POOL_SIZE = 1


@dataclass(frozen=True)
class Components:
    database: Database
    redis: redis.Redis
    standings: Standings
    events: EventLog
    catalogue: Catalogue


@cache
def components() -> Components:
    """The components of this process. Raises CatalogueError."""
    settings = Settings.load()
    assert settings.database_url and settings.redis_url
    client = make_client(settings.redis_url)
    make = partial(make_engine, settings.database_url, name="worker", pooler=settings.database_pooler)
    return Components(
        database=Database(
            make(_POOL_SIZE),
            autocommitting=make(_AUTOCOMMIT_POOL_SIZE, is_autocommit=True, is_for_lookups=True),
        ),
        redis=client,
        standings=Standings(client),
        events=EventLog(client),
        catalogue=load_catalogue(settings.catalogue_path),
    )
