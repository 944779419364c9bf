"""Where a request comes from, as far as the configured proxies vouch for it."""

from __future__ import annotations

import ipaddress

from flask import request

from scoreboard.store.audit import Origin


def request_origin() -> Origin:
    """The caller's address, None when it isn't one (a unix socket), and its user agent."""
    try:
        ip = str(ipaddress.ip_address(request.remote_addr or ""))
    except ValueError:
        ip = None
    return Origin(ip, request.user_agent.string.replace("\x00", "") or None)
