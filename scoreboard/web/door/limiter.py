"""flask-limiter, with all limits of a request counted in one round trip.

Stock, each window of each limit is a question to Redis, and the headers are two more.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field

from flask import Flask, current_app, request
from flask.globals import request_ctx
from flask_limiter import Limit, Limiter, RateLimitExceeded, RequestLimit
from flask_limiter._extension import LimiterContext
from flask_limiter._limits import RuntimeLimit
from flask_limiter.util import get_qualified_name
from limits import RateLimitItem, WindowStats
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from scoreboard.coalesce import Coalescer
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.rate_counter import Count, Counted, Hit, LimitCounter

# A rate comes from the settings, so there is one; more only while somebody tries out rates at run time.
_RATES_MAX = 16
# So close to the end of its window a count is not given back: the next window might get it.
_REFUND_MARGIN_S = 2.0
# Stands for the caller while a key is taken apart; no prefix or scope holds it.
_CALLER = "\0"


@dataclass(frozen=True, slots=True)
class _Window:
    """One window of a limit, with all that is the same for every caller.

    Its key in Redis is ``stored_head + caller + key_tail``.
    """

    rule: RuntimeLimit
    item: RateLimitItem
    unit_s: int
    expiry_s: int
    prefix: tuple[str, ...]
    scope: str
    stored_head: str
    key_head: str
    key_tail: str

    def hit(self, caller: str) -> Hit:
        return Hit(f"{self.stored_head}{caller}{self.key_tail}", self.expiry_s, self.rule.deduction_amount)


@dataclass(frozen=True, slots=True)
class _Declared:
    """A limit as it was declared for an endpoint; its windows are kept by the text of the rate."""

    limit: Limit
    caller: Callable[[], str]
    storage: RedisStorage
    prefix: tuple[str, ...]
    endpoint: str
    _known: dict[str, tuple[_Window, ...]] = field(default_factory=dict)

    def windows(self) -> tuple[_Window, ...]:
        """Those of the rate at this moment. Raises ValueError when it is no rate."""
        provider = self.limit.limit_provider
        rate = provider() if callable(provider) else provider
        known = self._known.get(rate)
        return self._parse(rate) if known is None else known

    def _parse(self, rate: str) -> tuple[_Window, ...]:
        limit = copy(self.limit)
        limit.limit_provider = rate
        if len(self._known) >= _RATES_MAX:
            self._known.clear()
        self._known[rate] = tuple(map(self._window, limit))
        return self._known[rate]

    def _window(self, rule: RuntimeLimit) -> _Window:
        item, scope = rule.limit, rule.scope_for(self.endpoint, None)
        key = item.key_for(*self.prefix, _CALLER, scope)
        key_head, _, key_tail = key.partition(_CALLER)
        stored_head, _, _ = self.storage.prefixed_key(key).partition(_CALLER)
        unit_s = item.GRANULARITY.seconds
        return _Window(rule, item, unit_s, item.get_expiry(), self.prefix, scope, stored_head, key_head, key_tail)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an endpoint counts: the application's limits, and those of its view, by whose name flask-limiter asks."""

    application: tuple[_Declared, ...]
    view: tuple[_Declared, ...]
    view_name: str


# A window and who hits it.
_Asked = tuple[_Window, str]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a request counted against limits that are not its own operation's."""

    counted: Sequence[tuple[_Asked, Counted]]
    # By the monotonic clock.
    at: float
    # Whether Redis counted it, so that it can be given back.
    is_shared: bool

    def refused_by(self) -> tuple[RuntimeLimit, int] | None:
        """The limit that refuses the longest, and for how many seconds."""
        breached = [
            (window.rule, max(1, counted.reset_in_s))
            for (window, _), counted in self.counted
            if counted.total > window.item.amount
        ]
        return breached[-1] if breached else None


class CountedLimit(RequestLimit):
    """A limit in this request, its window known from the count itself: nothing asks Redis again."""

    def __init__(
        self, extension: weakref.ProxyType[Limiter], window: _Window, caller: str, counted: Counted, now: float
    ) -> None:
        # Not the parent's: it would put the key together once more.
        item = window.item
        self.extension = extension
        self.limit = item
        self.request_args = [*window.prefix, caller, window.scope]
        self.key = f"{window.key_head}{caller}{window.key_tail}"
        self.breached = counted.total > item.amount
        self.shared = window.rule.shared
        self._window = WindowStats(now + counted.reset_in_s, max(0, item.amount - counted.total))


@dataclass
class _Context(LimiterContext):
    """What is known of a request's limits."""

    #: The view whose limits are counted already, by the name that flask-limiter gives it.
    counted_view: str | None = None
    #: What was counted, and when by the monotonic clock.
    counted: list[tuple[_Asked, Counted]] = field(default_factory=list)
    counted_at: float = 0.0
    #: The limit that refuses the longest.
    refused_by: RuntimeLimit | None = None


class OneTripLimiter(Limiter):
    """Counts where flask-limiter would, on the same keys, but all limits of a request at once.

    Only for fixed windows on a single Redis, with every call counted against all of its limits;
    anything else that may be configured or declared takes flask-limiter's own path, and so does
    everything while Redis is down. The limits of a view count together with the application's,
    before the view is called; so also when the application's refuse.

    Overrides ``_check_request_limit`` and reads other private parts of flask-limiter 4.1, here and
    in ``_plan_for``; tests compare with the stock limiter, and fail when an upgrade moves them.
    """

    #: None where flask-limiter counts by itself. One that gathers the hits of several requests may take its place.
    count: Count | None = None

    def init_app(self, app: Flask) -> None:
        super().init_app(app)
        self._plans: dict[str, _Plan | None] = {}
        self._proxy = weakref.proxy(self)
        # Another limiter of the same application has a context of its own.
        self._context_name = f"_limits_{id(self)}"
        storage = self._storage
        # By type, not by kind: clusters and sentinels are subclasses, with connections of another sort.
        if type(storage) is RedisStorage and storage.target_server == "redis" and self._only_counts():
            self._counter = LimitCounter(storage.storage)
            self.count = Coalescer(self._counter.count_each)

    @property
    def is_view_counted(self) -> bool:
        """Whether the limits of this request's view are counted already."""
        return self.context.counted_view is not None

    @property
    def context(self) -> _Context:
        # The parent's costs several times as much, and is asked several times a request.
        request_context = request_ctx._get_current_object()  # type: ignore[attr-defined]  # the proxy's own method
        known: dict[str, _Context] = vars(request_context)
        context = known.get(self._context_name)
        if context is None:
            context = known[self._context_name] = _Context()
        return context

    @property
    def refused_by(self) -> RuntimeLimit | None:
        """The limit of this request that refuses the longest; None where flask-limiter counted by itself."""
        return self.context.refused_by

    def retry_after_s(self) -> int:
        """The whole seconds until what refuses this request begins anew, at least 1, as the header says them."""
        limit = self.current_limit
        return max(1, int(limit.reset_at - time.time())) if limit is not None else 1

    def refund(self, labels: Collection[str]) -> None:
        """Take back what this request counted against the limits whose error message is one of these.

        Each request gives back only its own, so any number of them at once leave what the others
        counted. While Redis is down nothing is given back.
        """
        context = self.context
        of_labels = [each for each in context.counted if each[0][0].rule.error_message in labels]
        self._refund(of_labels, context.counted_at)

    def spend(self, endpoint: str) -> Spent:
        """Count this request once more, as one to this endpoint's view; the answer's headers don't tell of it."""
        plan = self._plan(endpoint)
        assert plan is not None
        asked = self._asked(plan.view)
        if self.count is not None and not self._storage_dead:
            try:
                counted = self.count([window.hit(caller) for window, caller in asked])
                return Spent(list(zip(asked, counted, strict=True)), time.monotonic(), is_shared=True)
            except UNAVAILABLE:
                self.logger.warning("Rate limit storage unreachable - falling back to in-memory storage")
                self._storage_dead = True
                # The rate has become that of one process.
                asked = self._asked(plan.view)
        return Spent([(each, self._count_here(*each)) for each in asked], time.monotonic(), is_shared=False)

    def give_back(self, spent: Spent) -> None:
        """Take back what was spent; while Redis is down nothing is given back."""
        if spent.is_shared:
            self._refund(spent.counted, spent.at)

    def _count_here(self, window: _Window, caller: str) -> Counted:
        key = (*window.prefix, caller, window.scope)
        is_within = self.limiter.hit(window.item, *key, cost=window.rule.deduction_amount)
        stats = self.limiter.get_window_stats(window.item, *key)
        total = window.item.amount - stats.remaining + (not is_within)
        return Counted(total, int(stats.reset_time - time.time()))

    def _refund(self, counted: Sequence[tuple[_Asked, Counted]], counted_at: float) -> None:
        elapsed_s = time.monotonic() - counted_at
        hits = [
            window.hit(caller) for (window, caller), each in counted if each.reset_in_s - elapsed_s > _REFUND_MARGIN_S
        ]
        if hits and not self._storage_dead:
            try:
                self._counter.refund(hits)
            except UNAVAILABLE as error:
                self.logger.warning("A count was not given back: %s", error)

    def count_again(self) -> None:
        """Count this request once more: its caller turned out to be another one. Raises RateLimitExceeded."""
        self.context.counted_view = None
        self._check_request_limit()
        if not self.is_view_counted:
            view = current_app.view_functions[self.identify_request()]
            super()._check_request_limit(get_qualified_name(view), in_middleware=False)

    def _only_counts(self) -> bool:
        """Whether nothing is configured that asks for more than counting all limits in fixed windows."""
        return (
            type(self._limiter) is FixedWindowRateLimiter
            and self._fail_on_first_breach is False
            and bool(self._in_memory_fallback_enabled)
            and not self._on_breach
            and not self._meta_limits
        )

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        if in_middleware:
            if self.count is not None and not self._storage_dead and self._check_at_once(self.count):
                return
        elif callable_name is not None and self.context.counted_view == callable_name:
            return
        try:
            super()._check_request_limit(callable_name, in_middleware)
        finally:
            self._read_window()

    def _read_window(self) -> None:
        """Leave in the context what the headers tell of a limit that flask-limiter counted.

        It would ask when the answer is there, perhaps another storage than the one that counted: Redis may have come
        back since. And if Redis has gone again by then, it makes an error of an answer that was due.
        """
        limit = self.context.view_rate_limit
        try:
            if limit is not None:
                _ = limit.window
        except UNAVAILABLE:
            self._storage_dead = True
            _ = limit.window if limit is not None else None

    def _check_at_once(self, count: Count) -> bool:
        """Whether that was all there is to check. Raises RateLimitExceeded."""
        plan = self._plan(self.identify_request())
        if plan is None:
            return False
        if any(is_exempt() for is_exempt in self._request_filters):
            return True
        # Flask answers OPTIONS itself: the view and its limits are never reached.
        has_view = bool(plan.view) and not _is_answered_by_flask()
        try:
            of_application = self._asked(plan.application)
            of_view = self._asked(plan.view) if has_view else []
        except ValueError:
            # No rate: flask-limiter knows what to make of it.
            return False
        hits = [window.hit(caller) for window, caller in (*of_application, *of_view)]
        try:
            counted = count(hits) if hits else []
        except UNAVAILABLE:
            self.logger.warning("Rate limit storage unreachable - falling back to in-memory storage")
            self._storage_dead = True
            return False
        context = self.context
        context.counted_view, context.counted_at = plan.view_name, time.monotonic()
        context.counted = list(zip((*of_application, *of_view), counted, strict=True))
        first_of_view = len(of_application)
        if of_application:
            self._judge(of_application, counted[:first_of_view])
        if has_view:
            self._judge(of_view, counted[first_of_view:])
        return True

    def _asked(self, declared: Iterable[_Declared]) -> list[_Asked]:
        """The windows that this request counts in, the shortest unit first. Raises ValueError for what is no rate."""
        asked: list[_Asked] = []
        for each in declared:
            if each.limit.exempt_when is not None and each.limit.exempt_when():
                continue
            windows, caller = each.windows(), each.caller()
            if caller:
                asked += [(window, caller) for window in windows]
            else:
                self.logger.error("Skipping limit: %s. Empty value found in parameters.", each.limit.limit_provider)
        asked.sort(key=_unit_s)
        return asked

    def _judge(self, asked: Sequence[_Asked], counted: Sequence[Counted]) -> None:
        """Leave in the context what the headers tell, as flask-limiter does. Raises RateLimitExceeded."""
        now = time.time()
        limits: list[RequestLimit] = [
            CountedLimit(self._proxy, window, caller, each, now)
            for (window, caller), each in zip(asked, counted, strict=True)
        ]
        context = self.context
        context.view_rate_limits = limits
        breached = [position for position, limit in enumerate(limits) if limit.breached]
        if not breached:
            # One that is shared says less about this operation.
            first = limits[0] if limits else None
            context.view_rate_limit = next((limit for limit in limits if not limit.shared), first)
            return
        context.view_rate_limit = limits[breached[-1]]
        context.refused_by = asked[breached[-1]][0].rule
        for position in breached:
            window, caller = asked[position]
            self.logger.info("ratelimit %s (%s) exceeded at endpoint: %s", window.item, caller, window.scope)
        raise RateLimitExceeded(asked[breached[0]][0].rule)

    def _plan(self, endpoint: str) -> _Plan | None:
        """None for what only flask-limiter itself can count. Limits are declared before the first request."""
        try:
            return self._plans[endpoint]
        except KeyError:
            # Only what is known, so that there is an end to the plans.
            if endpoint not in current_app.view_functions:
                return None
        plan = self._plans[endpoint] = self._plan_for(endpoint)
        return plan

    def _plan_for(self, endpoint: str) -> _Plan | None:
        manager = self.limit_manager
        view_name = get_qualified_name(current_app.view_functions[endpoint])
        application, of_view = manager._application_limits, [*manager._decorated_limits.get(view_name, ())]
        is_exempt = manager.exemption_scope(current_app, endpoint, request.blueprint)
        if (
            is_exempt
            or endpoint.rpartition(".")[2] == "static"
            or manager._default_limits
            or manager._blueprint_limits
            or not all(map(_only_counts, (*application, *of_view)))
        ):
            return None
        return _Plan(self._declared(application, endpoint), self._declared(of_view, endpoint), view_name)

    def _declared(self, limits: Iterable[Limit], endpoint: str) -> tuple[_Declared, ...]:
        storage = self.storage
        assert isinstance(storage, RedisStorage)
        prefix = (self._key_prefix,) if self._key_prefix else ()
        return tuple(_Declared(limit, limit.limit_by, storage, prefix, endpoint) for limit in limits)


def _only_counts(limit: Limit) -> bool:
    """Whether the limit asks for nothing but a rate, who calls, when not to count, a fixed scope and a cost."""
    special = (limit.per_method, limit.methods, limit.deduct_when, limit.on_breach, limit.meta_limits)
    return not any(special) and not callable(limit.scope)


def _unit_s(asked: _Asked) -> int:
    return asked[0].unit_s


def _is_answered_by_flask() -> bool:
    return request.method == "OPTIONS" and getattr(request.url_rule, "provide_automatic_options", False)
