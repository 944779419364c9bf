"""Counts fixed windows by flask-limiter's rules and on its keys, but all limits of a request in one round trip.

Stock, each window of each limit is a question to Redis, and the headers are two more. While Redis is down each process
counts in its own memory, as flask-limiter's fallback does; a test holds both against the stock extension.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, TypeVar

import redis
import structlog
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage, RedisStorage

from scoreboard.coalesce import Coalescer
from scoreboard.domain.errors import RateLimitExceeded
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.rate_counter import Count, Counted, Hit, LimitCounter

log = structlog.get_logger(__name__)

S = TypeVar("S")
# A rate comes from the settings, so there is one; more only while somebody tries out rates at run time.
_RATES_MAX = 16
# So close to the end of its window a count is not given back: the next window might get it.
_REFUND_MARGIN_S = 2.0
# A Redis that is down is asked again after 1, 2, 4 … seconds: each attempt holds one request up for a second at most.
_PROBE_S, _PROBE_MAX_S = 1.0, 32.0
# Stands for the caller while a key is taken apart; no prefix or scope holds it.
_CALLER = "\0"


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a limit, with all that is the same for every caller: its key is ``head + caller + tail``."""

    limit: Limit  # type: ignore[type-arg]  # of any subject
    item: RateLimitItem
    unit_s: int
    expiry_s: int
    head: str
    tail: str


@dataclass(frozen=True)
class Limit(Generic[S]):
    """A rate, and whose calls count against it; ``S`` is what callers are known by."""

    #: In flask-limiter's notation; asked at each call, so it may change.
    rate: Callable[[], str]
    #: Who is counted; a call with an empty key is not.
    key: Callable[[S], str]
    #: What is counted: the endpoint, or a name that several endpoints share.
    scope: str
    is_shared: bool = False
    #: Two words or more: the limit's name, and in words whose it is.
    label: str = ""
    exempt_when: Callable[[S], bool] | None = None
    cost: int = 1
    _windows: dict[str, tuple[Window, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)


# A window and who hits it.
Asked = tuple[Window, str]
_unit_s = attrgetter("unit_s")


@dataclass(frozen=True, slots=True)
class Shown:
    """The window that the answer's headers tell of; ``reset_at`` in Unix seconds."""

    amount: int
    remaining: int
    reset_at: int

    def headers(self) -> list[tuple[str, str]]:
        return [
            ("X-RateLimit-Limit", str(self.amount)),
            ("X-RateLimit-Remaining", str(self.remaining)),
            ("X-RateLimit-Reset", str(self.reset_at)),
        ]


@dataclass(frozen=True, slots=True)
class Counting:
    """What was counted for one call, and what follows from it."""

    asked: Sequence[Asked] = ()
    counted: Sequence[Counted] = ()
    # time.monotonic()
    counted_at: float = 0.0
    # Counted in this process's memory.
    is_local: bool = False
    shown: Shown | None = None
    #: The refusal of the limit that refuses the longest, None for a call that may go on.
    refusal: RateLimitExceeded | None = None

    def check(self) -> None:
        """Raises RateLimitExceeded for a call that is over one of its limits."""
        if self.refusal is not None:
            raise self.refusal


#: Of a call without limits.
UNCOUNTED = Counting()


class WindowCounter:
    """Counts calls on one Redis, and in this process's memory while that is down.

    No method raises when Redis is down. Hits that got no answer may have been counted.
    """

    def __init__(self, storage: RedisStorage, prefix: str, memory: MemoryStorage | None = None) -> None:
        self._storage = storage
        self._prefix = prefix
        self._memory = memory or MemoryStorage()
        self._counter = LimitCounter(storage.storage)
        #: Counts one request's hits; by default several requests' together.
        self.count: Count = Coalescer(self._counter.count_each)
        #: Whether Redis is down and each process counts for itself.
        self.is_degraded = False
        self._probe_at, self._probe_delay_s = 0.0, _PROBE_S

    @property
    def connection_pool(self) -> redis.ConnectionPool:
        """The connections that counts go over."""
        pool: redis.ConnectionPool = self._storage.storage.connection_pool
        return pool

    def count_groups(self, groups: Sequence[Sequence[Limit[S]]], subject: S) -> Counting:
        """Count a call against all of its limits, also against those behind one that refuses.

        The groups are judged in order, each as flask-limiter does the application's and then the view's.
        """
        if not self.is_degraded or self._is_back():
            asked = self._ask(groups, subject)
            hits = [_hit(each) for group in asked for each in group]
            try:
                return _judged(asked, self.count(hits), is_local=False) if hits else UNCOUNTED
            except UNAVAILABLE:
                self._degrade()
        # Rates are smaller now.
        asked = self._ask(groups, subject)
        counted = [self._count_here(each) for group in asked for each in group]
        return _judged(asked, counted, is_local=True) if counted else UNCOUNTED

    def refund(self, counting: Counting, labels: Collection[str] | None = None) -> None:
        """Take back what a call counted, by default all of it, else against the limits with one of these labels.

        Each call gives back only its own, so any number of them at once leave what the others counted. A window that
        is about to end keeps its count, and so does all that was counted while Redis was down.
        """
        if counting.is_local:
            return
        elapsed_s = time.monotonic() - counting.counted_at
        hits = [
            _hit(asked)
            for asked, counted in zip(counting.asked, counting.counted, strict=True)
            if (labels is None or asked[0].limit.label in labels) and counted.reset_in_s - elapsed_s > _REFUND_MARGIN_S
        ]
        if hits and not self.is_degraded:
            try:
                self._counter.refund(hits)
            except UNAVAILABLE as error:
                log.warning("count_not_given_back", error=str(error)[:200])

    def _ask(self, groups: Sequence[Sequence[Limit[S]]], subject: S) -> list[list[Asked]]:
        """The windows that this call counts in, of each group the shortest unit first."""
        asked_groups: list[list[Asked]] = []
        for limits in groups:
            asked: list[Asked] = []
            parts = 0
            for limit in limits:
                if limit.exempt_when is not None and limit.exempt_when(subject):
                    continue
                if caller := limit.key(subject):
                    asked += [(window, caller) for window in self._windows(limit)]
                    parts += 1
            if parts > 1:
                asked.sort(key=lambda each: each[0].unit_s)
            asked_groups.append(asked)
        return asked_groups

    def _windows(self, limit: Limit[S]) -> tuple[Window, ...]:
        rate = limit.rate()
        known = limit._windows.get(rate)
        if known is not None:
            return known
        if len(limit._windows) >= _RATES_MAX:
            limit._windows.clear()
        windows = [self._window(limit, item) for item in parse_many(rate)]
        limit._windows[rate] = tuple(sorted(windows, key=_unit_s))
        return limit._windows[rate]

    def _window(self, limit: Limit[S], item: RateLimitItem) -> Window:
        key = item.key_for(*filter(None, [self._prefix]), _CALLER, limit.scope)
        head, _, tail = self._storage.prefixed_key(key).partition(_CALLER)
        return Window(limit, item, item.GRANULARITY.seconds, item.get_expiry(), head, tail)

    def _count_here(self, asked: Asked) -> Counted:
        window, _ = asked
        key, expiry_s, cost = _hit(asked)
        total = self._memory.incr(key, expiry_s, cost)
        return Counted(total, round(max(0.0, min(window.expiry_s, self._memory.get_expiry(key) - time.time()))))

    def _degrade(self) -> None:
        log.warning("limits_counted_in_memory", hint="Redis is down; each process counts its share")
        self._probe_at, self._probe_delay_s = time.monotonic() + _PROBE_S, _PROBE_S
        self.is_degraded = True

    def _is_back(self) -> bool:
        now = time.monotonic()
        if now < self._probe_at:
            return False
        # First of all, so that only one request looks.
        self._probe_delay_s = min(2 * self._probe_delay_s, _PROBE_MAX_S)
        self._probe_at = now + self._probe_delay_s
        if self._storage.check():
            self.is_degraded = False
        return not self.is_degraded


def _hit(asked: Asked) -> Hit:
    window, caller = asked
    return Hit(f"{window.head}{caller}{window.tail}", window.expiry_s, window.limit.cost)


def _judged(groups: Sequence[Sequence[Asked]], counted: Sequence[Counted], *, is_local: bool) -> Counting:
    """What the headers tell and what is refused, as flask-limiter finds it."""
    now = time.time()
    shown, refusal, first = None, None, 0
    for group in groups:
        part = counted[first : first + len(group)]
        first += len(group)
        over = [
            (window, each) for (window, _), each in zip(group, part, strict=True) if each.total > window.item.amount
        ]
        if over:
            window, last = over[-1]
            shown = _shown(window, last, now)
            refusal = _refusal(window, shown.reset_at, now)
            break
        # One that is shared says less about this operation.
        chosen = next((place for place, (window, _) in enumerate(group) if not window.limit.is_shared), 0)
        shown = _shown(group[chosen][0], part[chosen], now) if group else None
    asked = [each for group in groups for each in group]
    return Counting(asked, counted, time.monotonic(), is_local, shown, refusal)


def _shown(window: Window, counted: Counted, now: float) -> Shown:
    return Shown(window.item.amount, max(0, window.item.amount - counted.total), int(now + counted.reset_in_s + 1))


def _refusal(window: Window, reset_at: int, now: float) -> RateLimitExceeded:
    """Which limit refuses, whose it is, how much it allows, and for how many seconds it goes on refusing."""
    name, _, per = window.limit.label.partition(" ")
    refusal = RateLimitExceeded(max(1, int(reset_at - now)))
    refusal.details = {"limit": name, "per": per, "rate": str(window.item), "retryAfter": refusal.retry_after_s}
    return refusal
