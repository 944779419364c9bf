"""The start of a process that serves: its settings, all of them tried."""

from __future__ import annotations

import sys

from config import Settings, SettingsError
from scoreboard.listening import check_port
from scoreboard.services.actions.catalogue import CatalogueError, load_catalogue


def load_settings(*, listens: bool = False) -> Settings:
    """The settings of a web, worker or beat process; a wrong one ends it with a line on standard error, status 2."""
    try:
        settings = Settings.load()
        if not settings.database_url or not settings.redis_url:
            raise SettingsError("DATABASE_URL and REDIS_URL are needed; `scoreboard run` sets them for its own servers")
        check_catalogue(settings)
        if listens:
            check_port(settings, may_share=True)
    except SettingsError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(2)
    return settings


def check_catalogue(settings: Settings) -> None:
    """Raise SettingsError when it can't be used: every process reads it, here a wrong one is one line."""
    try:
        load_catalogue(settings.catalogue_path)
    except CatalogueError as error:
        raise SettingsError(f"ACTION_CATALOGUE: {error}") from None
