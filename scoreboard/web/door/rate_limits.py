"""How often each caller may call: rates in flask-limiter's notation, counted in one round trip per request.

Many people share an address: a class, a hall, a phone network. So callers who are not signed in
are counted by address, with room for such a crowd; signed-in ones by account, and their address is
only capped at ten times as much. Calls that a page makes by itself (opening the stream, reading,
refreshing) have counters of their own, which leave the general one for anonymous callers alone.

While Redis is down limits are counted in the memory of each process, divided by the
number of processes, so logins and completions are never unlimited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from flask import Flask, request
from flask_limiter import Limiter
from limits import parse_many
from limits.storage import RedisStorage

from config import Settings
from scoreboard import metrics
from scoreboard.domain.accounts import login_key
from scoreboard.live.rate_counter import KEY_PREFIX, make_counting_pool
from scoreboard.live.stream.stream_slots import SIGNED_IN_TIMES
from scoreboard.web.api.operation import Operation
from scoreboard.web.door.client_info import address_of
from scoreboard.web.door.limiter import UNCOUNTED, Counting, Limit, WindowCounter
from scoreboard.web.door.subject import Subject

_REDIS = "redis://"


def _is_signed_in(subject: Subject) -> bool:
    return subject.account is not None


def _is_anonymous(subject: Subject) -> bool:
    return subject.account is None


def _is_opening_signed_in(subject: Subject) -> bool:
    return subject.account is not None or subject.is_resuming


def _is_opening_anonymous(subject: Subject) -> bool:
    return subject.account is None or subject.is_resuming


def _is_opening_anew(subject: Subject) -> bool:
    return not subject.is_resuming


def _is_not_flagged(subject: Subject) -> bool:
    return not subject.is_flagged


def _address_key(subject: Subject) -> str:
    return subject.address


def _anonymous_key(subject: Subject) -> str:
    """The address; but a player whose token has just expired must hear of it, however busy the neighbours are."""
    return f"expired:{subject.expired_account}" if subject.expired_account else subject.address


def _account_key(subject: Subject) -> str:
    return f"user:{subject.account}"


def _player_key(subject: Subject) -> str:
    return f"user:{subject.player}"


def _login_key(subject: Subject) -> str:
    """Name and address; hashed, because a name may hold anything."""
    name = login_key(subject.login_name)
    return hashlib.sha256(f"{subject.address}|{name}".encode(errors="replace")).hexdigest()[:32]


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


class Limits:
    """The limits of one application. Nothing here raises when Redis is down; see ``WindowCounter``.

    Count with ``count_call`` what comes in as a request, and with ``count`` what a request asks for beside that. Each
    answers a ``Counting``, whose ``refusal`` is the error to raise or to show, and which ``refund`` takes back.
    """

    def __init__(self, settings: Settings, windows: WindowCounter) -> None:
        self._settings = settings
        self.windows = windows
        self._anonymous = [self._of_anonymous()]
        #: By the names that operations give.
        self.table = self._table()
        self._of_failures = frozenset({"login_address address", "refresh address"})

    @property
    def is_degraded(self) -> bool:
        """Whether Redis is down and each process counts for itself."""
        return self.windows.is_degraded

    def rate(self, name: str, times: int = 1) -> str:
        """The configured rate of this name, divided by the processes while each counts for itself.

        ``times`` is the factor of its address, if it has one: the place for a factor of a known crowd, too.
        """
        configured: str = getattr(self._settings, f"rate_limit_{name}")
        rate = configured if times == 1 else multiplied(configured, times)
        if not self.windows.is_degraded:
            return rate
        metrics.LIMIT_FALLBACKS.inc()
        return divided(rate, self._settings.web_concurrency)

    def count_call(self, operation: Operation, subject: Subject) -> Counting:
        """Count a request against the limits that its operation names, and those of all anonymous callers."""
        if operation.is_unlimited:
            return UNCOUNTED
        own = self.table.get(operation.limits or "", ())
        is_counted_by_itself = subject.account is not None or operation.limits in _FOR_ANYBODY
        groups = [own] if is_counted_by_itself else [self._anonymous, own]
        return self.windows.count_groups([group for group in groups if group], subject)

    def count(self, name: str, subject: Subject) -> Counting:
        """Count one more operation inside a request, against the limits of this name: ``request``, ``complete`` …

        The same counters as when it is called by itself. Only answers: raise ``refusal`` or show it.
        """
        return self.windows.count_groups([self.table[name]], subject)

    def refund(self, counting: Counting) -> None:
        """Take back what a call was counted; see ``WindowCounter.refund``."""
        self.windows.refund(counting)

    def refund_success(self, counting: Counting) -> None:
        """Take back what a successful call was counted against the limits on failures: those are left in them alone."""
        for window, _ in counting.asked:
            if window.limit.label in self._of_failures:
                self.windows.refund(counting, self._of_failures)
                break

    def _limit(
        self,
        rate: str,
        per: str,
        key: Callable[[Subject], str],
        *,
        scope: str,
        is_shared: bool = False,
        exempt_when: Callable[[Subject], bool] | None = None,
        times: int = 1,
    ) -> Limit[Subject]:
        return Limit(
            partial(self.rate, rate, times),
            key,
            scope,
            is_shared=is_shared,
            label=f"{rate.removesuffix('_user')} {per}",
            exempt_when=exempt_when,
        )

    def _of_anonymous(self) -> Limit[Subject]:
        # The scope that flask-limiter gives to an application's limits.
        return self._limit("anonymous", "address", _anonymous_key, scope="global", is_shared=True)

    def _capped(self, rate: str, scope: str, exempt_when: Callable[[Subject], bool] | None = None) -> Limit[Subject]:
        """The cap per address of those who are counted in another way."""
        return self._limit(
            rate, "address", _address_key, scope=scope, is_shared=True, exempt_when=exempt_when, times=SIGNED_IN_TIMES
        )

    def _table(self) -> dict[str, Sequence[Limit[Subject]]]:
        """By the names that operations give. A scope that is not shared is the operation's endpoint."""
        limit, capped = self._limit, self._capped
        return {
            "login": [
                limit("login", "user name and address", _login_key, scope="accounts.sign_in"),
                limit("login_address", "address", _address_key, scope="accounts.sign_in"),
                capped("login_address", "login:all"),
            ],
            "register": [limit("register", "address", _address_key, scope="accounts.create_account")],
            "refresh": [
                limit("refresh", "address", _address_key, scope="accounts.refresh"),
                capped("refresh", "refresh:all"),
            ],
            "read": [
                limit("read_user", "account", _account_key, scope="read", is_shared=True, exempt_when=_is_anonymous),
                limit("read", "address", _address_key, scope="read", is_shared=True, exempt_when=_is_signed_in),
                capped("read", "read:signed-in", _is_anonymous),
            ],
            "stream": [
                limit("stream_user", "account", _account_key, scope="live.stream", exempt_when=_is_opening_anonymous),
                limit("stream", "address", _address_key, scope="live.stream", exempt_when=_is_opening_signed_in),
                capped("stream", "stream:signed-in", _is_opening_anonymous),
                # An id is no secret, so those who show one have a bound as well.
                capped("stream", "stream:resumed", _is_opening_anew),
            ],
            "request": [
                limit("request", "player", _player_key, scope="actions.request_action", exempt_when=_is_anonymous)
            ],
            "complete": [
                limit("complete", "player", _player_key, scope="actions.complete_action", exempt_when=_is_anonymous),
                limit(
                    "complete_flagged",
                    "player",
                    _player_key,
                    scope="actions.complete_action",
                    exempt_when=_is_not_flagged,
                ),
            ],
            "batch": [limit("batch", "account", _account_key, scope="system.send_actions", exempt_when=_is_anonymous)],
            "score": [
                limit("score", "account", _account_key, scope="players.show_own_score", exempt_when=_is_anonymous)
            ],
        }


class NextLimit:
    """The limits of requesting an action, for a completion that asks for the next one."""

    def __init__(self, limits: Limits, subject: Subject) -> None:
        self._limits = limits
        self._subject = subject
        self._spent = UNCOUNTED

    def spend(self) -> None:
        """Count one request. Raises RateLimitExceeded with the details that a request would be refused with."""
        self._spent = self._limits.count("request", self._subject)
        self._spent.check()

    def give_back(self) -> None:
        """Take back what was counted, once; nothing when nothing was."""
        spent, self._spent = self._spent, UNCOUNTED
        self._limits.refund(spent)


# Operations whose anonymous callers have counters of their own.
_FOR_ANYBODY = frozenset({"login", "register", "refresh", "read", "stream"})


def make_limits(settings: Settings) -> Limits:
    """Connects to nothing yet."""
    # Names the kind of storage only: the connections know where Redis is, and how to talk to it.
    storage = RedisStorage(_REDIS, connection_pool=make_counting_pool(settings.redis_url or ""))
    return Limits(settings, WindowCounter(storage, KEY_PREFIX))


def init_limiter(app: Flask, limits: Limits) -> None:
    """flask-limiter itself, on the same connections and keys: for its commands, and for its decorators.

    Our own table counts everything that ``enter`` lets in, and flask-limiter declares nothing by itself.
    """
    app.config.update(
        RATELIMIT_STORAGE_URI=_REDIS,
        RATELIMIT_STORAGE_OPTIONS={"connection_pool": limits.windows.connection_pool},
    )
    limiter = Limiter(
        lambda: address_of(request.environ),
        strategy="fixed-window",
        key_prefix=KEY_PREFIX,
        in_memory_fallback_enabled=True,
        fail_on_first_breach=False,
    )
    # Registered beforehand, it leaves its hooks out, which would look at each request and find nothing to do.
    app.extensions.setdefault("limiter", set()).add(limiter)
    limiter.init_app(app)
