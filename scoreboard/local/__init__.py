"""PostgreSQL and Valkey from wheels, for a machine that has none: started, watched and stopped by this process.

Nothing in production imports this package's servers: there DATABASE_URL and REDIS_URL are set. The wheels come with
requirements/local.txt; without them, starting a server raises :class:`LocalServersError`, which says what to set.
"""

from scoreboard.local.errors import LocalServersError, ServersBusyError
from scoreboard.local.resolve import resolve_settings
from scoreboard.local.servers import LocalServers
from scoreboard.local.state import ServerAddresses, running_servers

__all__ = [
    "LocalServers",
    "LocalServersError",
    "ServerAddresses",
    "ServersBusyError",
    "resolve_settings",
    "running_servers",
]
