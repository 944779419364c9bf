"""All limits of a request in one round trip: as flask-limiter and the limits library count, on the same keys."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import redis
from flask import Flask, Response, abort, g, request
from flask.testing import FlaskClient
from flask_limiter import Limiter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.test import TestResponse

from app import create_app
from config import Settings
from scoreboard.live.connection import make_client
from scoreboard.live.rate_counter import Counted, Hit, LimitCounter, make_counting_pool
from scoreboard.local import LocalServers
from scoreboard.web.api.operation import operation_of
from scoreboard.web.bootstrap import EXTENSION, Components
from scoreboard.web.door.limiter import UNCOUNTED, Counting, Limit, WindowCounter
from scoreboard.web.door.rate_limits import Limits
from scoreboard.web.door.subject import Subject
from tests.servers import servers_in
from tests.service import open_folder

RECOVERY_WAIT_S = 20.0
# Windows that outlast a test.
RATES = ["2/minute", "5/hour", "3/2 hours", "7/day", "20 per 3 day"]
on_servers = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def counter(client: redis.Redis) -> LimitCounter:
    return LimitCounter(client)


# -- counting ----------------------------------------------------------------------------


@on_servers
@given(st.lists(st.lists(st.tuples(st.sampled_from(RATES), st.integers(0, 1), st.integers(1, 3)), max_size=8)))
def test_counts_are_those_of_the_limits_library(
    counter: LimitCounter, local_servers: LocalServers, batches: list[list[tuple[str, int, int]]]
) -> None:
    storage = RedisStorage(local_servers.redis_url)
    stock = FixedWindowRateLimiter(storage)
    ours, theirs = uuid4().hex, uuid4().hex
    for batch in batches:
        items = [(parse(rate), str(caller), cost) for rate, caller, cost in batch]
        hits = [
            Hit(storage.prefixed_key(item.key_for(ours, who)), item.get_expiry(), cost) for item, who, cost in items
        ]
        for (item, who, cost), counted in zip(items, counter.count(hits), strict=True):
            is_allowed = stock.hit(item, theirs, who, cost=cost)
            window = stock.get_window_stats(item, theirs, who)
            assert (counted.total <= item.amount) == is_allowed
            assert max(0, item.amount - counted.total) == window.remaining
            # Whole seconds, and one was counted a moment after the other.
            assert time.time() + counted.reset_in_s == pytest.approx(window.reset_time, abs=1.5)
        # What lies in Redis is the same as well, for whoever reads it there.
        for item, who, _ in items:
            read, expected = stock.get_window_stats(item, ours, who), stock.get_window_stats(item, theirs, who)
            assert read.remaining == expected.remaining
            assert read.reset_time == pytest.approx(expected.reset_time, abs=1.5)


def test_a_window_begins_anew_when_it_ends(counter: LimitCounter, client: redis.Redis) -> None:
    hit = Hit("a", 60, 1)
    counter.count([hit, hit])
    client.pexpire("a", 1)
    while client.exists("a"):
        pass
    assert counter.count([hit]) == [Counted(1, 60)]
    assert client.ttl("a") == 60


def test_a_counter_without_an_end_gets_one(counter: LimitCounter, client: redis.Redis) -> None:
    client.set("a", 5)
    assert counter.count([Hit("a", 30, 1)]) == [Counted(6, 30)]
    assert client.ttl("a") == 30


def test_later_hits_do_not_prolong_a_window(counter: LimitCounter, client: redis.Redis) -> None:
    counter.count([Hit("a", 60, 1)])
    client.expire("a", 20)
    assert counter.count([Hit("a", 60, 1)]) == [Counted(2, 20)]
    assert client.ttl("a") == 20


def test_hits_from_many_threads_are_each_counted_once(counter: LimitCounter) -> None:
    def count(_number: int) -> int:
        return counter.count([Hit("a", 60, 1), Hit("b", 60, 2), Hit("a", 60, 1)])[0].total

    with ThreadPoolExecutor(16) as pool:
        totals = sorted(pool.map(count, range(200)))
    assert totals == list(range(1, 400, 2)), "each call's hits lie together, and none is lost"
    assert counter.count([Hit("b", 60, 0)])[0].total == 400


def test_requests_counted_together_each_get_their_part(counter: LimitCounter) -> None:
    one, other = Hit("one", 60, 1), Hit("other", 20, 2)
    parts = counter.count_each([[one, other], [], [one], [other, one, one]])
    assert parts == [
        [Counted(1, 60), Counted(2, 20)],
        [],
        [Counted(2, 60)],
        [Counted(4, 20), Counted(3, 60), Counted(4, 60)],
    ]


def test_a_hit_without_an_answer_is_not_sent_twice(client: redis.Redis, local_servers: LocalServers) -> None:
    """A second try would count a call twice, and refuse who did nothing."""
    counter = LimitCounter(redis.Redis(connection_pool=make_counting_pool(local_servers.redis_url)))
    counter.count([Hit("a", 60, 1)])
    # Holds all writers up for longer than anybody waits for an answer; then lets them through.
    client.client_pause(1_800, all=False)
    with pytest.raises(redis.TimeoutError):
        counter.count([Hit("a", 60, 1)])
    assert make_client(local_servers.redis_url, timeout_s=5.0).incrby("a", 0) <= 2


# -- by flask-limiter's rules ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """A limit of a route, for either side."""

    rate: str
    shared: str | None = None
    cost: int = 1
    is_of_flagged: bool = False
    is_never: bool = False
    has_key: bool = True

    def key(self, http: Any) -> str:
        return http.headers.get("X-Caller", "nobody") if self.has_key else ""

    def is_exempt(self, http: Any) -> bool:
        return self.is_never or (self.is_of_flagged and "X-Flagged" not in http.headers)


BOTH = Rule("6/hour", shared="both")
ROUTES: dict[str, list[Rule]] = {
    "one": [BOTH, Rule("1/2 minutes", is_of_flagged=True), Rule("2/minute;4/hour;30/day")],
    "two": [BOTH, Rule("20/day")],
    "dear": [Rule("7/hour", cost=3)],
    "exempt": [Rule("1/hour", is_never=True)],
    "nameless": [Rule("1/hour", has_key=False)],
    "plain": [],
}
ANONYMOUS = "5 per hour"


def address(http: Any) -> str:
    return str(http.headers.get("X-Address", "here"))


def is_signed_in(http: Any) -> bool:
    return "X-Caller" in http.headers


def add_routes(app: Flask, decorate: Callable[[str, Callable[[], str]], Callable[[], str]]) -> FlaskClient:
    for name in ROUTES:
        view = decorate(name, lambda name=name: name)  # type: ignore[misc]  # the name of this turn
        app.add_url_rule(f"/{name}", name, view, methods=["GET", "POST"])
    return app.test_client()


def stock_app(redis_url: str, prefix: str) -> FlaskClient:
    """flask-limiter itself; signed-in callers have an X-Caller, others share an address."""
    app = Flask(__name__)
    limiter = Limiter(
        lambda: address(request),
        strategy="fixed-window",
        headers_enabled=True,
        in_memory_fallback_enabled=True,
        fail_on_first_breach=False,
        key_prefix=prefix,
        application_limits=[ANONYMOUS],
        application_limits_exempt_when=lambda: is_signed_in(request),
        storage_uri=redis_url,
    )
    limiter.init_app(app)
    limiter.request_filter(lambda: "X-Filtered" in request.headers)

    def decorate(name: str, view: Callable[[], str]) -> Callable[[], str]:
        view.__name__ = view.__qualname__ = name
        for rule in ROUTES[name]:
            options: dict[str, Any] = {
                "key_func": partial(rule.key, request),
                "exempt_when": partial(rule.is_exempt, request),
                "cost": rule.cost,
            }
            limit = limiter.shared_limit(rule.rate, rule.shared, **options) if rule.shared else None
            view = (limit or limiter.limit(rule.rate, **options))(view)
        return view

    return add_routes(app, decorate)


def our_app(redis_url: str, prefix: str) -> FlaskClient:
    """Our counter in a bare application, which tells what it counted as flask-limiter tells it."""
    app = Flask(__name__)
    windows = WindowCounter(RedisStorage(redis_url), prefix)
    application = [Limit(lambda: ANONYMOUS, address, "global", is_shared=True, exempt_when=is_signed_in)]
    of_views = {
        name: [
            Limit(
                partial(str, rule.rate),
                rule.key,
                rule.shared or name,
                is_shared=bool(rule.shared),
                exempt_when=rule.is_exempt,
                cost=rule.cost,
            )
            for rule in rules
        ]
        for name, rules in ROUTES.items()
    }

    @app.before_request
    def count() -> None:
        g.counting = UNCOUNTED
        name = request.endpoint
        if name not in of_views or "X-Filtered" in request.headers:
            return
        own = [] if request.method == "OPTIONS" else of_views[name]
        g.counting = windows.count_groups([group for group in (application, own) if group], request)
        if g.counting.refusal:
            abort(429)

    @app.after_request
    def tell(response: Response) -> Response:
        if g.counting.shown:
            response.headers.extend(g.counting.shown.headers())
            response.headers["Retry-After"] = str(int(g.counting.shown.reset_at - time.time()))
        return response

    return add_routes(app, lambda _name, view: view)


@dataclasses.dataclass
class Call:
    path: str
    headers: dict[str, str]
    method: str = "GET"

    def on(self, client: FlaskClient) -> TestResponse:
        return client.open(self.path, method=self.method, headers=self.headers)


def assert_same(ours: TestResponse, theirs: TestResponse) -> None:
    assert ours.status_code == theirs.status_code
    told = {name: value for name, value in theirs.headers.items() if name.startswith(("X-RateLimit", "Retry"))}
    assert {name for name, _ in ours.headers if name.startswith(("X-RateLimit", "Retry"))} == told.keys()
    for name, value in told.items():
        if name in ("X-RateLimit-Reset", "Retry-After"):
            # One was counted a moment after the other, on a machine that may be busy.
            assert int(ours.headers[name]) == pytest.approx(int(value), abs=5)
        else:
            assert ours.headers[name] == value


calls = st.builds(
    Call,
    path=st.sampled_from(
        ["/one", "/one", "/one", "/two", "/dear", "/exempt", "/nameless", "/plain", "/no-such-path", "/static/x"]
    ),
    headers=st.fixed_dictionaries(
        {},
        optional={
            "X-Caller": st.sampled_from(["ann", "bob"]),
            "X-Flagged": st.just("1"),
            "X-Filtered": st.just("1"),
        },
    ),
    method=st.sampled_from(["GET", "GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]),
)


@on_servers
@given(st.lists(calls, min_size=8, max_size=40))
def test_answers_and_headers_are_flask_limiters_own(
    client: redis.Redis, local_servers: LocalServers, sequence: list[Call]
) -> None:
    ours, theirs = our_app(local_servers.redis_url, uuid4().hex), stock_app(local_servers.redis_url, uuid4().hex)
    for call in sequence:
        assert_same(call.on(ours), call.on(theirs))


def test_counts_lie_where_flask_limiter_has_them(client: redis.Redis, local_servers: LocalServers) -> None:
    """So they carry over a deployment, and other tools can read and reset them."""
    ours, theirs = our_app(local_servers.redis_url, "sb:limit"), stock_app(local_servers.redis_url, "sb:limit")
    call = Call("/one", {"X-Caller": "ann"})
    assert call.on(theirs).headers["X-RateLimit-Remaining"] == "1"
    stock_keys = set(client.keys("LIMITS:*"))
    assert call.on(ours).headers["X-RateLimit-Remaining"] == "0"
    assert set(client.keys("LIMITS:*")) == stock_keys
    assert call.on(theirs).status_code == 429
    (limiter,) = theirs.application.extensions["limiter"]
    limiter.reset()
    assert call.on(ours).headers["X-RateLimit-Remaining"] == "1"


def subject_limit(rate: Callable[[], str], **options: Any) -> Limit[str]:
    return Limit(rate, str, "tests", **options)


@pytest.fixture
def windows(client: redis.Redis, local_servers: LocalServers) -> WindowCounter:
    return WindowCounter(RedisStorage(local_servers.redis_url), uuid4().hex)


def test_a_changed_rate_holds_from_the_next_call(windows: WindowCounter) -> None:
    rates = ["3/hour"]
    limit = subject_limit(lambda: rates[-1])
    seen = []
    for rate in ["3/hour", "9/hour", "3/hour", *(f"{amount}/minute" for amount in range(1, 40)), "3/hour"]:
        rates.append(rate)
        shown = windows.count_groups([[limit]], "ann").shown
        assert shown is not None
        seen.append((shown.amount, shown.remaining))
    assert seen[:3] == [(3, 2), (9, 8), (3, 1)]
    assert seen[3:-1] == [(amount, amount - 1) for amount in range(1, 40)]
    assert seen[-1] == (3, 0)


def test_a_refusal_by_one_group_counts_against_the_others_too(windows: WindowCounter) -> None:
    first: list[Limit[str]] = [subject_limit(lambda: "2/hour", label="first x")]
    other: list[Limit[str]] = [Limit(lambda: "9/day", str, "other")]
    results = [windows.count_groups([first, other], "ann") for _ in range(4)]
    assert [result.refusal is None for result in results] == [True, True, False, False]
    refusal = results[-1].refusal
    assert refusal is not None
    assert refusal.details == {"limit": "first", "per": "x", "rate": "2 per 1 hour", "retryAfter": 3600}
    shown = windows.count_groups([other], "ann").shown
    assert shown is not None
    assert shown.remaining == 9 - 5


def test_a_call_is_given_back_once_and_by_itself_only(windows: WindowCounter) -> None:
    limits: list[Limit[str]] = [
        subject_limit(lambda: "9/hour", label="a x"),
        Limit(lambda: "9/day", str, "other", label="b x"),
    ]
    kept, given = (windows.count_groups([limits], "ann") for _ in range(2))
    windows.refund(given, {"b x"})
    assert [each.total for each in windows.count_groups([limits], "ann").counted] == [3, 2]
    windows.refund(kept)
    assert [each.total for each in windows.count_groups([limits], "ann").counted] == [3, 2]


# -- round trips -----------------------------------------------------------------------------


def commands_about_limits(client: redis.Redis, act: Callable[[], object]) -> list[str]:
    """What clients send about limits meanwhile, as the server sees it; a script's own commands are not sent."""
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py's own
        act()
        end = uuid4().hex
        client.echo(end)
        seen = []
        while end not in (command := monitor.next_command())["command"]:
            if "LIMITS:" in command["command"] and command["client_type"] != "lua":
                seen.append(command["command"])
    return seen


@pytest.fixture
def service(client: redis.Redis, local_servers: LocalServers, database_url: str) -> FlaskClient:
    return create_app(Settings.load(database_url=database_url, redis_url=local_servers.redis_url)).test_client()


def limits_of(service: FlaskClient) -> Limits:
    components: Components = service.application.extensions[EXTENSION]
    return components.limits


def sign_up(service: FlaskClient) -> dict[str, str]:
    name = f"limited {uuid4().hex[:8]}"
    body = {"username": name, "email": f"{name[8:]}@example.org", "password": "a long enough pass phrase"}
    answer = service.post("/v1/auth/register", json=body)
    assert answer.json is not None, answer.text
    return {"Authorization": f"Bearer {answer.json['data']['accessToken']}"}


def test_a_request_asks_once_about_all_of_its_limits(client: redis.Redis, service: FlaskClient) -> None:
    token = sign_up(service)
    anonymous: dict[str, str] = {}
    login = {"username": "nobody here", "password": "not the password"}
    requests: list[tuple[str, str, dict[str, str], int]] = [
        ("POST", "/v1/actions/complete", token, 4),
        ("POST", "/v1/actions/request", token, 1),
        ("GET", "/v1/users/me/score", token, 1),
        ("GET", "/v1/leaderboard", token, 2),
        ("GET", "/v1/leaderboard", anonymous, 1),
        ("POST", "/v1/auth/login", anonymous, 3),
        ("POST", "/v1/auth/register", anonymous, 1),
        ("GET", "/v1/actions/types", anonymous, 1),
        ("GET", "/v1/users/me/history", anonymous, 1),
    ]
    for method, path, headers, windows in requests:
        body = login if path.endswith("login") else {}
        sent = commands_about_limits(
            client,
            lambda: service.open(path, method=method, headers=headers, json=body),  # noqa: B023
        )
        assert len(sent) == 1, (path, sent)
        words = sent[0].split()
        assert (words[0], int(words[2])) == ("EVALSHA", windows), path


def test_what_is_not_limited_asks_nothing(client: redis.Redis, service: FlaskClient) -> None:
    token = sign_up(service)
    paths = [("/health", {}), ("/v1/users/me/history", token), ("/no/such/path", {}), ("/static/scoreboard.js", {})]
    for path, headers in paths:
        assert commands_about_limits(client, lambda: service.get(path, headers=headers)) == [], path  # noqa: B023
    assert commands_about_limits(client, lambda: service.options("/v1/leaderboard")) == []


def test_a_call_without_limits_waits_for_no_count(windows: WindowCounter) -> None:
    def refuse(_hits: Sequence[Hit]) -> list[Counted]:
        raise AssertionError("was asked")

    windows.count = refuse
    never = subject_limit(lambda: "1/hour", exempt_when=lambda _subject: True)
    assert windows.count_groups([[never], []], "ann") is UNCOUNTED
    assert windows.count_groups([[subject_limit(lambda: "1/hour")]], "") is UNCOUNTED
    with pytest.raises(AssertionError, match="was asked"):
        windows.count_groups([[subject_limit(lambda: "1/hour")]], "ann")


def test_flask_limiter_is_there_and_looks_at_no_request(service: FlaskClient) -> None:
    app = service.application
    (limiter,) = app.extensions["limiter"]
    assert limiter.initialized
    assert limiter.storage.check()
    assert not app.before_request_funcs
    assert not app.after_request_funcs
    assert not app.teardown_request_funcs


def test_each_scope_of_its_own_is_its_operations_endpoint(service: FlaskClient) -> None:
    """As flask-limiter has it, so that counts carry over."""
    named: dict[str, list[str]] = {}
    for endpoint, view in service.application.view_functions.items():
        operation = operation_of(view)
        if operation is not None and operation.limits:
            named.setdefault(operation.limits, []).append(endpoint)
    table = limits_of(service).table
    assert table.keys() == named.keys()
    for name, limits in table.items():
        assert {limit.scope for limit in limits if not limit.is_shared} <= set(named[name])
        assert len(named[name]) == 1 or all(limit.is_shared for limit in limits)


def test_one_more_operation_is_counted_as_if_it_had_been_called(service: FlaskClient) -> None:
    limits, player = limits_of(service), uuid4()
    subject = Subject("192.0.2.1", account=player, player=player)
    counting = limits.count("request", subject)
    assert counting.refusal is None
    assert [window.limit.scope for window, _ in counting.asked] == ["actions.request_action"]
    assert {caller for _, caller in counting.asked} == {f"user:{player}"}
    limits.refund(counting)
    assert [each.total for each in limits.count("request", subject).counted] == [1]


# -- without Redis ---------------------------------------------------------------------------


@pytest.fixture
def own_servers() -> Iterator[LocalServers]:
    with open_folder() as folder, servers_in(folder, with_postgres=False) as servers:
        yield servers


def fallbacks(service: FlaskClient) -> float:
    line = next(
        line
        for line in service.get("/metrics").text.splitlines()
        if line.startswith("scoreboard_limit_fallbacks_total ")
    )
    return float(line.split()[1])


def test_without_redis_each_process_counts_its_share_and_then_redis_counts_again(
    own_servers: LocalServers, database_url: str
) -> None:
    settings = Settings.load(
        database_url=database_url, redis_url=own_servers.redis_url, rate_limit_anonymous="6/hour", web_concurrency=2
    )
    service = create_app(settings).test_client()
    limiter = limits_of(service)

    def call() -> tuple[int, str, str]:
        answer = service.get("/v1/users/me/history")
        return answer.status_code, answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]

    assert call() == (401, "6", "5")
    before = fallbacks(service)
    own_servers.valkey.stop()
    assert call() == (401, "3", "2")
    assert limiter.is_degraded
    assert [call() for _ in range(3)] == [(401, "3", "1"), (401, "3", "0"), (429, "3", "0")]
    assert fallbacks(service) == before + 4
    own_servers.valkey.start()
    deadline = time.monotonic() + RECOVERY_WAIT_S
    while limits_of(service).is_degraded and time.monotonic() < deadline:
        service.get("/v1/users/me/history")
    with redis.Redis.from_url(own_servers.redis_url) as client:
        remaining = 6 - sum(int(client.get(key) or 0) for key in client.keys("LIMITS:*"))
        assert commands_about_limits(client, call) != []
        assert call() == (401, "6", str(remaining - 2))


def test_without_redis_logins_stay_limited(own_servers: LocalServers, database_url: str) -> None:
    settings = Settings.load(
        database_url=database_url, redis_url=own_servers.redis_url, rate_limit_login="4/hour", web_concurrency=2
    )
    service = create_app(settings).test_client()
    own_servers.valkey.stop()
    body = {"username": "nobody here", "password": "not the password"}
    answers = [service.post("/v1/auth/login", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[-1].headers["X-RateLimit-Limit"] == "2"


def test_a_call_that_got_no_answer_does_not_ask_again(client: redis.Redis, windows: WindowCounter) -> None:
    """A Redis that hangs costs the call one wait, not one for each way of asking."""

    def give_up(_hits: Sequence[Hit]) -> list[Counted]:
        raise redis.TimeoutError

    windows.count = give_up
    limit = subject_limit(lambda: "2/hour")
    results: list[Counting] = []
    sent = commands_about_limits(
        client, lambda: results.extend(windows.count_groups([[limit]], "ann") for _ in range(3))
    )
    assert windows.is_degraded
    assert sent == []
    assert [result.refusal is None for result in results] == [True, True, False]
    assert all(result.is_local for result in results)
    # Nothing of it was counted there, so nothing is given back there.
    assert commands_about_limits(client, lambda: windows.refund(results[0])) == []
