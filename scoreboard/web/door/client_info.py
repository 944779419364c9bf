"""Where a request comes from: what limits, stream slots, the audit log and the request log go by.

``REMOTE_ADDR`` is the client's by now, as far as the trusted proxies vouch for it (``web.door.forwarded``).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_network
from typing import TYPE_CHECKING

from scoreboard.logs import UNIX_PEER
from scoreboard.store.audit import Origin
from scoreboard.web.door.forwarded import read_address

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def origin_of(environ: WSGIEnvironment) -> Origin:
    """The caller's address, None when it isn't one (a unix socket), and its user agent."""
    address = read_address(environ.get("REMOTE_ADDR") or "")
    agent = environ.get("HTTP_USER_AGENT", "").replace("\x00", "")
    return Origin(None if address is None else str(address), agent or None)


def address_of(environ: WSGIEnvironment) -> str:
    """What callers at one address are counted under; one IPv6 network counts as one address."""
    return _network(environ.get("REMOTE_ADDR") or "")


def logged_address(environ: WSGIEnvironment) -> str:
    """The caller's address as text."""
    return environ.get("REMOTE_ADDR") or UNIX_PEER


# Taking an address apart costs more than all else about it; callers come again. 4,096 of them are under 1 MB.
@lru_cache(maxsize=4096)
def _network(remote: str) -> str:
    address = read_address(remote)
    if address is None:
        return UNIX_PEER
    # Providers hand a whole /64 to one customer.
    return str(ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address)
