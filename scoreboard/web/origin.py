"""Where a request comes from, as far as the configured proxies vouch for it."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from flask import request

from scoreboard.store.audit import Origin


def request_origin() -> Origin:
    """The caller's address, None when it isn't one (a unix socket), and its user agent."""
    return Origin(
        _address(request.remote_addr or ""), request.headers.get("User-Agent", "").replace("\x00", "") or None
    )


@lru_cache(maxsize=10_000)
def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
