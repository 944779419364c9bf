"""How often who may call: flask-limiter on Redis, its rules and headers, in one round trip per request.

Many people share an address: a class, a hall, a phone network. So callers who are not signed in
are counted by address, with room for such a crowd; signed-in ones by account, and their address is
only capped at ten times as much. Calls that a page makes by itself (opening the stream, reading,
refreshing) have counters of their own, which leave the general one for anonymous callers alone.

While Redis is down limits are counted in the memory of each process, divided by the
number of processes, so logins and completions are never unlimited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, g, request
from flask_limiter import RateLimitExceeded
from flask_limiter._limits import RuntimeLimit
from limits import parse_many

from config import Settings
from scoreboard import metrics
from scoreboard.domain import errors
from scoreboard.domain.accounts import Role, Status, login_key
from scoreboard.live.rate_counter import KEY_PREFIX, make_counting_pool
from scoreboard.live.stream.stream_slots import SIGNED_IN_TIMES
from scoreboard.store.sessions import Caller
from scoreboard.web.bootstrap import current_components, current_operation
from scoreboard.web.door.call import NOBODY, Identity
from scoreboard.web.door.client_info import address_of
from scoreboard.web.door.limiter import OneTripLimiter, Spent
from scoreboard.web.door.operation import Access
from scoreboard.web.door.preferences import asked_event_id
from scoreboard.web.door.served_player import body_field, served_player, served_player_id


def client_address() -> str:
    return address_of(request.environ)


def _caller() -> Caller | None:
    identity: Identity = g.get("identity", NOBODY)
    return identity.caller


def _is_signed_in() -> bool:
    """Whether the caller counts as somebody: not where credentials aren't looked at, as for a new account."""
    operation = current_operation()
    return _caller() is not None and (operation is None or operation.access is not Access.ANYONE)


def _is_anonymous() -> bool:
    return not _is_signed_in()


def _is_counted_by_itself() -> bool:
    """Whether a call leaves the general counter of anonymous callers alone."""
    operation = current_operation()
    return _is_signed_in() or (operation is not None and operation.limits in _FOR_ANYBODY)


def _is_resuming() -> bool:
    """Whether the caller comes back to a stream that has just been theirs, as after a restart of ours."""
    if "is_resuming" not in g:
        last_event_id = asked_event_id(request)
        g.is_resuming = last_event_id is not None and current_components().hub.has_given(last_event_id)
    return bool(g.is_resuming)


def _is_opening_signed_in() -> bool:
    return _is_signed_in() or _is_resuming()


def _is_opening_anonymous() -> bool:
    return _is_anonymous() or _is_resuming()


def _is_opening_anew() -> bool:
    return not _is_resuming()


def _is_not_flagged() -> bool:
    """Whether the player is in good standing, whoever sends the completion."""
    caller = _caller()
    if caller is not None and caller.role is Role.SYSTEM:
        player = served_player()
        return player is None or player.status is not Status.FLAGGED
    return caller is None or caller.status is not Status.FLAGGED


def _anonymous_key() -> str:
    """The address; but a player whose token has just expired must hear of it, however busy the neighbours are."""
    expired_subject = g.identity.expired_subject
    return f"expired:{expired_subject}" if expired_subject else client_address()


def _user_key() -> str:
    return _key_of(_caller())


def _key_of(caller: Caller | None) -> str:
    return f"user:{caller.user_id}" if caller else f"ip:{client_address()}"


def _player_key() -> str:
    """The player an action is for, whoever sends it: the player's own browser or a trusted game server."""
    caller = _caller()
    if caller is None or caller.role is not Role.SYSTEM:
        return _key_of(caller)
    player_id = served_player_id()
    # What names no player is refused, and counts as the server's own.
    return _key_of(caller) if player_id is None else f"user:{player_id}"


def _login_key() -> str:
    """Name and address; hashed, because a name may hold anything."""
    name = login_key(body_field("username"))
    return hashlib.sha256(f"{client_address()}|{name}".encode(errors="replace")).hexdigest()[:32]


@lru_cache(maxsize=64)
def divided(rate: str, processes: int) -> str:
    """A rate for one of several processes, at least 1 per window."""
    return _scaled(rate, lambda amount: max(1, amount // processes))


@lru_cache(maxsize=64)
def multiplied(rate: str, times: int) -> str:
    """A rate for a larger crowd."""
    return _scaled(rate, lambda amount: amount * times)


def _scaled(rate: str, scale: Callable[[int], int]) -> str:
    items = parse_many(rate)
    return ";".join(f"{scale(item.amount)} per {item.multiples} {item.GRANULARITY.name}" for item in items)


@dataclass(frozen=True)
class _Limit:
    """A rate of the settings, and whose calls count against it."""

    rate: str
    key: Callable[[], str]
    # What the key stands for, in words for the caller.
    per: str
    exempt_when: Callable[[], bool] | None = None
    # Shared by the operations that name it; else each has a counter of its own.
    scope: str | None = None
    times: int = 1
    # A success gives its count back: afterwards only failures are left in it.
    counts_failures: bool = False

    @property
    def label(self) -> str:
        """What flask-limiter hands on with a refusal: the limit's name, and whose it is."""
        return f"{self.rate.removesuffix('_user')} {self.per}"


def _capped(rate: str, scope: str, exempt_when: Callable[[], bool] | None = None) -> _Limit:
    """The cap per address of those who are counted in another way."""
    return _Limit(rate, client_address, "address", exempt_when, scope, SIGNED_IN_TIMES)


# Operations whose anonymous callers have counters of their own.
_FOR_ANYBODY: dict[str, list[_Limit]] = {
    "login": [
        _Limit("login", _login_key, "user name and address"),
        _Limit("login_address", client_address, "address", counts_failures=True),
        _capped("login_address", "login:all"),
    ],
    "register": [_Limit("register", client_address, "address")],
    "refresh": [
        _Limit("refresh", client_address, "address", counts_failures=True),
        _capped("refresh", "refresh:all"),
    ],
    "read": [
        _Limit("read_user", _user_key, "account", _is_anonymous, "read"),
        _Limit("read", client_address, "address", _is_signed_in, "read"),
        _capped("read", "read:signed-in", _is_anonymous),
    ],
    "stream": [
        _Limit("stream_user", _user_key, "account", _is_opening_anonymous),
        _Limit("stream", client_address, "address", _is_opening_signed_in),
        _capped("stream", "stream:signed-in", _is_opening_anonymous),
        # An id is no secret, so those who show one have a bound as well.
        _capped("stream", "stream:resumed", _is_opening_anew),
    ],
}
# By the names that operations give.
_LIMITS: dict[str, list[_Limit]] = {
    **_FOR_ANYBODY,
    "request": [_Limit("request", _player_key, "player", _is_anonymous)],
    "complete": [
        _Limit("complete", _player_key, "player", _is_anonymous),
        _Limit("complete_flagged", _player_key, "player", _is_not_flagged),
    ],
    "batch": [_Limit("batch", _user_key, "account", _is_anonymous)],
    "score": [_Limit("score", _user_key, "account", _is_anonymous)],
}
_ANONYMOUS = _Limit("anonymous", _anonymous_key, "address")
_OF_FAILURES = frozenset(limit.label for limits in _LIMITS.values() for limit in limits if limit.counts_failures)

View = Callable[..., Any]
_OPTIONS: dict[str, Any] = {
    "strategy": "fixed-window",
    "headers_enabled": True,
    "in_memory_fallback_enabled": True,
    # Every call counts against all of its limits, also one that another limit refuses.
    "fail_on_first_breach": False,
    "key_prefix": KEY_PREFIX,
}


class Limits(OneTripLimiter):
    """The limiter of one application."""

    @property
    def is_degraded(self) -> bool:
        """Whether Redis is down and each process counts for itself."""
        return self._storage_dead

    def rate(self, name: str, times: int = 1) -> Callable[[], str]:
        """The configured rate of this name, divided by the processes while each counts for itself.

        ``times`` is the factor of its address, if it has one: the place for a factor of a known crowd, too.
        """
        setting = f"rate_limit_{name}"

        def provide() -> str:
            settings = current_components().settings
            configured: str = getattr(settings, setting)
            rate = configured if times == 1 else multiplied(configured, times)
            if not self.is_degraded:
                return rate
            metrics.LIMIT_FALLBACKS.inc()
            return divided(rate, settings.web_concurrency)

        return provide

    def guard(self, view: View, name: str) -> View:
        """The view behind the limits that an operation names."""
        limited = view
        for limit in _LIMITS[name]:
            # Each call declares a limit of the view; one wrapper checks them all.
            limited = self._declare(limit)(view)

        @wraps(view)
        def guarded(**arguments: Any) -> Any:
            # A plain look first: the wrapper finds out the same in ten times the time.
            return (view if self.is_view_counted else limited)(**arguments)

        return guarded

    def _declare(self, limit: _Limit) -> Callable[[View], View]:
        rate = self.rate(limit.rate, limit.times)
        options: dict[str, Any] = {
            "key_func": limit.key,
            "exempt_when": limit.exempt_when,
            "error_message": limit.label,
        }
        return self.shared_limit(rate, limit.scope, **options) if limit.scope else self.limit(rate, **options)

    def describe(self, refused: RateLimitExceeded) -> dict[str, object]:
        """Which limit refuses, whose it is, how much it allows, and for how many seconds it goes on refusing."""
        return _described(self.refused_by or refused.limit, self.retry_after_s())

    def give_back_success(self, response: Response) -> Response:
        """An after-request hook: what counts failures only lets a success go."""
        if response.status_code < HTTPStatus.BAD_REQUEST:
            self.refund(_OF_FAILURES)
        return response


def init_limits(app: Flask, settings: Settings) -> None:
    """Count anonymous callers everywhere, and each operation's own limits where it names some."""
    limiter = Limits(_ANONYMOUS.key, application_limits_exempt_when=_is_counted_by_itself, **_OPTIONS)
    app.config.update(
        # Names the kind of storage only: the connections know where Redis is, and how to talk to it.
        RATELIMIT_STORAGE_URI="redis://",
        RATELIMIT_STORAGE_OPTIONS={"connection_pool": make_counting_pool(settings.redis_url or "")},
        RATELIMIT_APPLICATION=limiter.rate(_ANONYMOUS.rate),
    )
    limiter.init_app(app)
    app.after_request(limiter.give_back_success)
    # Asked before anything else: a probe must not wait for the limiter to see whether Redis is back.
    limiter.request_filter(_is_unlimited)
    for endpoint, view in app.view_functions.items():
        operation = getattr(view, "operation", None)
        if operation is not None and operation.limits:
            app.view_functions[endpoint] = limiter.guard(view, operation.limits)


def _described(rule: RuntimeLimit, retry_after_s: int) -> dict[str, object]:
    name, _, per = str(rule.error_message or _ANONYMOUS.label).partition(" ")
    return {"limit": name, "per": per, "rate": str(rule.limit), "retryAfter": retry_after_s}


class NextLimit:
    """The limits of requesting an action, for a completion that asks for the next one."""

    def __init__(self, endpoint: str) -> None:
        """``endpoint``: of the operation that requests actions."""
        self._endpoint = endpoint
        self._spent: Spent | None = None

    def spend(self) -> None:
        """Count one request. Raises RateLimitExceeded with the details that a request would be refused with."""
        (limiter,) = current_app.extensions["limiter"]
        self._spent = limiter.spend(self._endpoint)
        refused_by = self._spent.refused_by()
        if refused_by is not None:
            rule, retry_after_s = refused_by
            raise errors.RateLimitExceeded(retry_after_s, details=_described(rule, retry_after_s))

    def give_back(self) -> None:
        """Take back what was counted, once; nothing when nothing was."""
        spent, self._spent = self._spent, None
        if spent is not None:
            (limiter,) = current_app.extensions["limiter"]
            limiter.give_back(spent)


def describe_refusal(refused: RateLimitExceeded) -> dict[str, object]:
    """The details of a refusal, for a page that wants to say what to wait for."""
    (limiter,) = current_app.extensions["limiter"]
    described: dict[str, object] = limiter.describe(refused)
    return described


def _is_unlimited() -> bool:
    """Pages and static files, health and metrics, and a browser's question whether it may call at all."""
    operation = current_operation()
    if operation is None:
        return request.endpoint in current_app.view_functions
    return operation.is_unlimited or request.method == "OPTIONS"
