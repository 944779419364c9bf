"""Settings whose DATABASE_URL and REDIS_URL are never empty."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from config import Settings
from scoreboard.local.errors import LocalServersError, ServersBusyError
from scoreboard.local.servers import LocalServers
from scoreboard.local.state import ServerAddresses, running_servers

# The longest start of a neighbour that is worth waiting for: it is making its cluster.
_NEIGHBOUR_WAIT_S = 60.0
_POLL_S = 0.1


@contextmanager
def resolve_settings(settings: Settings) -> Iterator[Settings]:
    """The settings with every server's address: the given ones, else a running neighbour's, else our own for a while.

    Raises LocalServersError when neither works; servers that were started here are stopped at the end.
    """
    if settings.database_url and settings.redis_url:
        yield settings
        return
    with ExitStack() as closing:
        addresses = _join_or_start(settings, closing)
        yield with_addresses(settings, addresses)


def with_addresses(settings: Settings, addresses: ServerAddresses) -> Settings:
    """The settings with the local servers' addresses where none were given."""
    urls = {
        "database_url": settings.database_url or addresses.database_url,
        "redis_url": settings.redis_url or addresses.redis_url,
    }
    missing = [name.upper() for name, url in urls.items() if url is None]
    if missing:
        raise LocalServersError(
            f"the servers in {settings.scoreboard_data} were started with {missing[0]} set: set it here as well"
        )
    return Settings.load(**{**settings.model_dump(exclude_unset=True), **urls})


def _join_or_start(settings: Settings, closing: ExitStack) -> ServerAddresses:
    data_dir = settings.scoreboard_data
    deadline = time.monotonic() + _NEIGHBOUR_WAIT_S
    while True:
        addresses = running_servers(data_dir)
        if addresses:
            return addresses
        try:
            return start_missing(settings, closing).addresses
        except ServersBusyError:
            # Its owner is between taking the lock and serving, or about to leave.
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def start_missing(settings: Settings, closing: ExitStack) -> LocalServers:
    """Start a server for each address that is not set; ``closing`` stops them."""
    return closing.enter_context(
        LocalServers(
            settings.scoreboard_data,
            with_postgres=settings.database_url is None,
            with_valkey=settings.redis_url is None,
        )
    )
