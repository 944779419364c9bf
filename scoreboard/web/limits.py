"""How often who may call: flask-limiter on Redis, its rules and headers, in one round trip per request.

While Redis is down limits are counted in the memory of each process, divided by the
number of processes, so logins and completions are never unlimited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from flask import Flask, current_app, g, request
from limits import parse_many
from werkzeug.exceptions import HTTPException

from config import Settings
from scoreboard import metrics
from scoreboard.domain.accounts import Role, Status, login_key
from scoreboard.live.limits import make_counting_pool
from scoreboard.store.sessions import Caller
from scoreboard.web.limiter import OneTripLimiter
from scoreboard.web.operation import Access
from scoreboard.web.origin import client_address
from scoreboard.web.parts import current_operation, current_parts


def _caller() -> Caller | None:
    caller: Caller | None = g.get("caller")
    return caller


def _is_signed_in() -> bool:
    """Whether the caller counts as somebody: not where credentials aren't looked at, as for a new account."""
    operation = current_operation()
    return _caller() is not None and (operation is None or operation.access is not Access.ANYONE)


def _is_anonymous() -> bool:
    return _caller() is None


def _is_not_flagged() -> bool:
    caller = _caller()
    return caller is None or caller.status is not Status.FLAGGED


def _user_key() -> str:
    return _key_of(_caller())


def _key_of(caller: Caller | None) -> str:
    return f"user:{caller.user_id}" if caller else f"ip:{client_address()}"


def _player_key() -> str:
    """The player an action is for: each player of a trusted game server has limits of their own."""
    caller = _caller()
    if caller is None or caller.role is not Role.SYSTEM:
        return _key_of(caller)
    player = _body_field("onBehalfOf")
    return f"user:{caller.user_id}:{hashlib.sha256(player.encode()).hexdigest()[:32]}"


def _login_key() -> str:
    """Name and address; hashed, because a name may hold anything."""
    name = login_key(_body_field("username"))
    return hashlib.sha256(f"{client_address()}|{name}".encode(errors="replace")).hexdigest()[:32]


def _body_field(name: str) -> str:
    # Must not raise: the limiter would take any exception for a dead Redis.
    try:
        body = request.get_json(silent=True)
    except (HTTPException, ValueError):
        return ""
    value = body.get(name) if isinstance(body, dict) else None
    return value[:400] if isinstance(value, str) else ""


@lru_cache(maxsize=64)
def divided(rate: str, processes: int) -> str:
    """A rate for one of several processes, at least 1 per window."""
    items = parse_many(rate)
    return ";".join(
        f"{max(1, item.amount // processes)} per {item.multiples} {item.GRANULARITY.name}" for item in items
    )


View = Callable[..., Any]
_OPTIONS: dict[str, Any] = {
    "strategy": "fixed-window",
    "headers_enabled": True,
    "in_memory_fallback_enabled": True,
    # Every call counts against all of its limits, also one that another limit refuses.
    "fail_on_first_breach": False,
    "key_prefix": "sb:limit",
}


class Limits(OneTripLimiter):
    """The limiter of one application."""

    @property
    def is_degraded(self) -> bool:
        """Whether Redis is down and each process counts for itself."""
        return self._storage_dead

    def rate(self, name: str) -> Callable[[], str]:
        """The configured rate of this name, divided by the processes while each counts for itself."""
        setting = f"rate_limit_{name}"

        def provide() -> str:
            settings = current_parts().settings
            configured: str = getattr(settings, setting)
            if not self.is_degraded:
                return configured
            metrics.LIMIT_FALLBACKS.inc()
            return divided(configured, settings.web_concurrency)

        return provide

    def guard(self, view: View, name: str) -> View:
        """The view behind the limits that an operation names."""
        limited = view
        for rate, key, exempt_when, scope in _LIMITS[name]:
            decorate = (
                self.shared_limit(self.rate(rate), scope, key_func=key, exempt_when=exempt_when)
                if scope
                else self.limit(self.rate(rate), key_func=key, exempt_when=exempt_when)
            )
            # Each call declares a limit of the view; one wrapper checks them all.
            limited = decorate(view)

        @wraps(view)
        def guarded(**arguments: Any) -> Any:
            # A plain look first: the wrapper finds out the same in ten times the time.
            return (view if self.is_view_counted else limited)(**arguments)

        return guarded


# Name in an operation → (setting, whose count, when not to count, scope shared by several paths).
_LIMITS: dict[str, list[tuple[str, Callable[[], str], Callable[[], bool] | None, str | None]]] = {
    "login": [("login", _login_key, None, None), ("login_address", client_address, None, None)],
    "request": [("request", _player_key, _is_anonymous, None)],
    "complete": [
        ("complete", _player_key, _is_anonymous, None),
        ("complete_flagged", _player_key, _is_not_flagged, None),
    ],
    "read": [("read", client_address, None, "read")],
    "score": [("score", _user_key, None, None)],
    "stream": [("stream", client_address, None, None)],
}


def init_limits(app: Flask, settings: Settings) -> None:
    """Count anonymous callers everywhere, and each operation's own limits where it names some."""
    limiter = Limits(client_address, application_limits_exempt_when=_is_signed_in, **_OPTIONS)
    app.config.update(
        # Names the kind of storage only: the connections know where Redis is, and how to talk to it.
        RATELIMIT_STORAGE_URI="redis://",
        RATELIMIT_STORAGE_OPTIONS={"connection_pool": make_counting_pool(settings.redis_url or "")},
        RATELIMIT_APPLICATION=limiter.rate("anonymous"),
    )
    limiter.init_app(app)
    # Asked before anything else: a probe must not wait for the limiter to see whether Redis is back.
    limiter.request_filter(_is_unlimited)
    for endpoint, view in app.view_functions.items():
        operation = getattr(view, "operation", None)
        if operation is not None and operation.limits:
            app.view_functions[endpoint] = limiter.guard(view, operation.limits)


def _is_unlimited() -> bool:
    """Pages and static files, health and metrics."""
    operation = current_operation()
    return operation.is_unlimited if operation is not None else request.endpoint in current_app.view_functions
