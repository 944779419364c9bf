"""All limits of a request in one round trip: as flask-limiter and the limits library count, on the same keys."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
from flask import Blueprint, Flask, Response, request
from flask.testing import FlaskClient
from flask_limiter import Limit, Limiter, RequestLimit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.test import TestResponse

from app import create_app
from config import Settings
from scoreboard.live.connection import make_client, text
from scoreboard.live.rate_counter import Counted, Hit, LimitCounter, make_counting_pool
from scoreboard.local import LocalServers
from scoreboard.web.door.limiter import CountedLimit, OneTripLimiter
from tests.servers import servers_in
from tests.service import open_folder

RECOVERY_WAIT_S = 20.0
# Windows that outlast a test.
RATES = ["2/minute", "5/hour", "3/2 hours", "7/day", "20 per 3 day"]
on_servers = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Declare = Callable[[Limiter, Flask], None]


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


# -- in flask-limiter's place ----------------------------------------------------------------


def declare_usual(limiter: Limiter, app: Flask) -> None:
    """Limits of every sort that is counted at once."""

    def caller() -> str:
        return request.headers.get("X-Caller", "nobody")

    def is_not_flagged() -> bool:
        return "X-Flagged" not in request.headers

    shared = limiter.shared_limit("6/hour", "both", key_func=caller)

    @app.route("/one", methods=["GET", "POST"])
    @limiter.limit("2/minute;4/hour;30/day", key_func=caller)
    @limiter.limit(lambda: "1/2 minutes", key_func=caller, exempt_when=is_not_flagged)
    @shared
    def one() -> str:
        return "one"

    @app.get("/two")
    @limiter.limit("20/day", key_func=caller)
    @shared
    def two() -> str:
        return "two"

    @app.get("/dear")
    @limiter.limit("7/hour", key_func=caller, cost=lambda: 3, error_message="too dear")
    def dear() -> str:
        return "dear"

    @app.get("/exempt")
    @limiter.limit("1/hour", exempt_when=lambda: True)
    def exempt() -> str:
        return "exempt"

    @app.get("/nameless")
    @limiter.limit("1/hour", key_func=lambda: "")
    def nameless() -> str:
        return "nameless"

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    limiter.request_filter(lambda: "X-Filtered" in request.headers)


def make_app(
    kind: type[Limiter],
    redis_url: str,
    declare: Declare = declare_usual,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> FlaskClient:
    """An application with this limiter; signed-in callers have an X-Caller, others share an address."""
    app = Flask(__name__)
    limiter = kind(
        lambda: request.headers.get("X-Address", "here"),
        **{
            "strategy": "fixed-window",
            "headers_enabled": True,
            "in_memory_fallback_enabled": True,
            "fail_on_first_breach": False,
            "key_prefix": uuid4().hex,
            "application_limits": ["5 per hour"],
            "application_limits_exempt_when": lambda: "X-Caller" in request.headers,
            **options,
        },
    )
    app.config.update({"RATELIMIT_STORAGE_URI": redis_url, **(config or {})})
    limiter.init_app(app)
    declare(limiter, app)
    return app.test_client()


def limiter_of(client: FlaskClient) -> Any:
    (limiter,) = client.application.extensions["limiter"]
    return limiter


@dataclasses.dataclass
class Call:
    path: str
    headers: dict[str, str]
    method: str = "GET"

    def on(self, client: FlaskClient) -> TestResponse:
        return client.open(self.path, method=self.method, headers=self.headers)


def assert_same(ours: TestResponse, theirs: TestResponse) -> None:
    assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
    assert list(ours.headers.keys()) == list(theirs.headers.keys())
    for name, value in theirs.headers.items():
        if name in ("X-RateLimit-Reset", "Retry-After"):
            assert int(ours.headers[name]) == pytest.approx(int(value), abs=1)
        else:
            assert ours.headers[name] == value


def assert_same_course(client: redis.Redis, ours: FlaskClient, theirs: FlaskClient, course: list[Call]) -> None:
    """One after the other: meta limits have no prefix of their own, and would be shared."""
    expected = [call.on(theirs) for call in course]
    client.flushall()
    for call, answer in zip(course, expected, strict=True):
        assert_same(call.on(ours), answer)


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
    ours, theirs = (make_app(kind, local_servers.redis_url) for kind in (OneTripLimiter, Limiter))
    assert limiter_of(ours).count is not None
    for call in sequence:
        assert_same(call.on(ours), call.on(theirs))


def test_counts_lie_where_flask_limiter_has_them(client: redis.Redis, local_servers: LocalServers) -> None:
    """So they carry over a deployment, and other tools can read and reset them."""
    ours, theirs = (
        make_app(kind, local_servers.redis_url, key_prefix="sb:limit") for kind in (OneTripLimiter, Limiter)
    )
    call = Call("/one", {"X-Caller": "ann"})
    assert call.on(theirs).headers["X-RateLimit-Remaining"] == "1"
    stock_keys = set(client.keys("LIMITS:*"))
    assert call.on(ours).headers["X-RateLimit-Remaining"] == "0"
    assert set(client.keys("LIMITS:*")) == stock_keys
    assert call.on(theirs).status_code == 429
    limiter_of(ours).reset()
    assert call.on(ours).headers["X-RateLimit-Remaining"] == "1"


def test_the_current_limits_can_be_read_in_a_view(client: redis.Redis, local_servers: LocalServers) -> None:
    def read(app: Any) -> list[tuple[object, ...]]:
        limiter = limiter_of(app)
        with app.application.test_request_context("/one", headers={"X-Caller": "ann"}):
            app.application.preprocess_request()
            app.application.view_functions["one"]()
            assert limiter.current_limit is limiter.current_limits[0]
            return [
                (each.limit, each.key, each.request_args, each.breached, each.shared, each.remaining, each.reset_at)
                for each in limiter.current_limits
            ]

    ours, theirs = (make_app(kind, local_servers.redis_url, key_prefix="p") for kind in (OneTripLimiter, Limiter))
    first = read(theirs)
    limiter_of(theirs).reset()
    second = read(ours)
    assert [each[:-1] for each in second] == [each[:-1] for each in first]
    assert [each[-1] for each in second] == pytest.approx([each[-1] for each in first], abs=1)


def test_a_changed_rate_holds_from_the_next_request(client: redis.Redis, local_servers: LocalServers) -> None:
    rates = ["3/hour"]

    def declare(limiter: Limiter, app: Flask) -> None:
        app.add_url_rule("/", view_func=limiter.limit(lambda: rates[-1])(lambda: "moved"))

    app = make_app(OneTripLimiter, local_servers.redis_url, declare, application_limits=None)
    seen = []
    for rate in ["3/hour", "9/hour", "3/hour", *(f"{amount}/minute" for amount in range(1, 40)), "3/hour"]:
        rates.append(rate)
        answer = app.get("/")
        seen.append((answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]))
    assert seen[:3] == [("3", "2"), ("9", "8"), ("3", "1")]
    assert seen[3:-1] == [(str(amount), str(amount - 1)) for amount in range(1, 40)]
    assert seen[-1] == ("3", "0")


def test_what_is_no_rate_is_left_to_flask_limiter(client: redis.Redis, local_servers: LocalServers) -> None:
    def declare(limiter: Limiter, app: Flask) -> None:
        app.add_url_rule("/", view_func=limiter.limit(lambda: "often")(lambda: "unlimited"))

    ours, theirs = (make_app(kind, local_servers.redis_url, declare) for kind in (OneTripLimiter, Limiter))
    for _ in range(6):
        assert_same(ours.get("/"), theirs.get("/"))


def test_a_refusal_by_the_application_counts_against_the_views_limits_too(
    client: redis.Redis, local_servers: LocalServers
) -> None:
    def declare(limiter: Limiter, app: Flask) -> None:
        app.add_url_rule("/", view_func=limiter.limit("9/hour", key_func=lambda: "all")(lambda: "hello"))

    app = make_app(OneTripLimiter, local_servers.redis_url, declare)
    answers = [app.get("/") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].headers["X-RateLimit-Limit"] == "5"
    assert app.get("/", headers={"X-Caller": "ann"}).headers["X-RateLimit-Remaining"] == "1"


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


def test_a_request_without_limits_waits_for_no_count(client: redis.Redis, local_servers: LocalServers) -> None:
    def refuse(_hits: Sequence[Hit]) -> list[Counted]:
        raise AssertionError("was asked")

    app = make_app(OneTripLimiter, local_servers.redis_url)
    limiter_of(app).count = refuse
    for path in ("/exempt", "/plain", "/nameless", "/no-such-path"):
        Call(path, {"X-Caller": "ann"}).on(app)
    Call("/one", {"X-Filtered": "1"}).on(app)
    with app.application.test_request_context("/one"), pytest.raises(AssertionError, match="was asked"):
        app.application.preprocess_request()


def test_another_may_count_for_several_requests(client: redis.Redis, local_servers: LocalServers) -> None:
    ours, theirs = (make_app(kind, local_servers.redis_url) for kind in (OneTripLimiter, Limiter))
    counter = LimitCounter(client)

    def count_with_a_stranger(hits: Sequence[Hit]) -> list[Counted]:
        stranger = [Hit("stranger", 60, 1)]
        return counter.count_each([stranger, hits, stranger])[1]

    limiter_of(ours).count = count_with_a_stranger
    for _ in range(4):
        assert_same(*(Call("/one", {"X-Caller": "ann"}).on(app) for app in (ours, theirs)))
    assert client.get("stranger") == b"8"


# -- what only flask-limiter itself can do ---------------------------------------------------


def refuse_politely(_limit: RequestLimit) -> Response:
    return Response("politely", status=429)


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("memory://", {}),
        (None, {"strategy": "moving-window"}),
        (None, {"fail_on_first_breach": True}),
        (None, {"in_memory_fallback_enabled": False}),
        (None, {"on_breach": refuse_politely}),
        (None, {"meta_limits": ["2/hour"]}),
        (None, {"enabled": False}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value or "redis",
)
def test_another_configuration_is_flask_limiters_own_business(
    client: redis.Redis, local_servers: LocalServers, uri: str | None, options: dict[str, Any]
) -> None:
    storage = uri or local_servers.redis_url
    ours, theirs = (make_app(kind, storage, **options) for kind in (OneTripLimiter, Limiter))
    assert not options.get("enabled", True) or limiter_of(ours).count is None
    assert_same_course(client, ours, theirs, [Call("/one", {"X-Caller": "ann"}), Call("/plain", {})] * 8)


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [("fixed-window", b"string"), ("moving-window", b"list"), ("sliding-window-counter", b"string")],
)
def test_a_strategy_keeps_its_own_kind_of_window(
    client: redis.Redis, local_servers: LocalServers, strategy: str, kind: bytes
) -> None:
    app = make_app(OneTripLimiter, local_servers.redis_url, strategy=strategy)
    assert (limiter_of(app).count is not None) == (strategy == "fixed-window")
    assert [Call("/one", {"X-Caller": "ann"}).on(app).status_code for _ in range(3)] == [200, 200, 429]
    keys = client.keys("LIMITS:*")
    assert {client.type(key) for key in keys} == {kind}
    assert all(text(key).startswith("LIMITS:{") for key in keys) == (strategy == "sliding-window-counter")


@pytest.mark.parametrize(
    "special",
    [
        {"per_method": True},
        {"methods": ["post"]},
        {"deduct_when": lambda response: response.status_code != 200},
        {"on_breach": refuse_politely},
        {"meta_limits": ["1/hour"]},
        {"scope": lambda endpoint: f"{request.method} of {endpoint}"},
    ],
    ids=lambda special: next(iter(special)),
)
def test_a_special_limit_is_flask_limiters_own_business(
    client: redis.Redis, local_servers: LocalServers, special: dict[str, Any]
) -> None:
    def declare(limiter: Limiter, app: Flask) -> None:
        limited = limiter.limit("2/hour", **special)(lambda: "special")
        app.add_url_rule("/", view_func=limited, methods=["GET", "POST"])

    ours, theirs = (
        make_app(kind, local_servers.redis_url, declare, application_limits=None) for kind in (OneTripLimiter, Limiter)
    )
    methods = ["GET", "POST", "GET", "POST", "GET", "GET", "POST"]
    assert_same_course(client, ours, theirs, [Call("/", {}, method) for method in methods])


def declare_default(limiter: Limiter, app: Flask) -> None:
    app.add_url_rule("/", view_func=lambda: "default")


def declare_exempt(limiter: Limiter, app: Flask) -> None:
    app.add_url_rule("/", view_func=limiter.exempt(lambda: "exempt"))


def declare_inside(limiter: Limiter, app: Flask) -> None:
    """A limit in a view that has one already."""

    @app.get("/")
    @limiter.limit("4/hour")
    def view() -> str:
        with limiter.limit("2/hour"):
            return "inside"


def declare_blueprint(limiter: Limiter, app: Flask) -> None:
    blueprint = Blueprint("limited", __name__)
    blueprint.add_url_rule("/", view_func=lambda: "blueprint")
    limiter.limit("2/hour")(blueprint)
    app.register_blueprint(blueprint)


@pytest.mark.parametrize(
    ("declare", "options"),
    [
        (declare_default, {"default_limits": ["2/hour"]}),
        (declare_default, {"request_identifier": lambda: request.path}),
        (declare_blueprint, {}),
        (declare_exempt, {}),
        (declare_inside, {}),
    ],
    ids=["default", "identifier", "blueprint", "exempt", "inside"],
)
def test_other_places_of_limits_are_heeded(
    client: redis.Redis, local_servers: LocalServers, declare: Declare, options: dict[str, Any]
) -> None:
    ours, theirs = (make_app(kind, local_servers.redis_url, declare, **options) for kind in (OneTripLimiter, Limiter))
    for _ in range(7):
        assert_same(ours.get("/"), theirs.get("/"))


def test_flask_limiter_knows_no_other_special_limits() -> None:
    """An upgrade that brings a new one must say whether counting at once heeds it."""
    assert {each.name for each in dataclasses.fields(Limit)} == {
        *("limit_provider", "key_function", "scope", "cost", "shared", "error_message", "exempt_when"),
        # These take flask-limiter's own path.
        *("methods", "per_method", "meta_limits", "deduct_when", "on_breach"),
        # Those tell about defaults and the declaration itself.
        *("override_defaults", "limiter", "finalized"),
    }


def test_a_counted_limit_has_all_that_flask_limiters_has(client: redis.Redis, local_servers: LocalServers) -> None:
    app = make_app(OneTripLimiter, local_servers.redis_url)
    with app.application.test_request_context("/one", headers={"X-Caller": "ann"}):
        app.application.preprocess_request()
        limiter = limiter_of(app)
        ours = limiter.current_limit
        theirs = RequestLimit(limiter, ours.limit, ours.request_args, False, False)
        assert isinstance(ours, CountedLimit)
        assert vars(ours).keys() == vars(theirs).keys()


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
    limiter = limiter_of(service)

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
    while limiter.is_degraded and time.monotonic() < deadline:
        service.get("/v1/users/me/history")
    with redis.Redis.from_url(own_servers.redis_url) as client:
        remaining = 6 - sum(int(client.get(key) or 0) for key in client.keys("LIMITS:*"))
        assert commands_about_limits(client, lambda: call() == (401, "6", str(remaining - 1))) != []
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


def test_who_got_no_answer_does_not_ask_again(client: redis.Redis, local_servers: LocalServers) -> None:
    """A Redis that hangs costs the request one wait, not one for each way of asking."""

    def give_up(_hits: Sequence[Hit]) -> list[Counted]:
        raise redis.TimeoutError

    app = make_app(OneTripLimiter, local_servers.redis_url)
    limiter_of(app).count = give_up
    sent = commands_about_limits(client, lambda: Call("/one", {"X-Caller": "ann"}).on(app))
    assert limiter_of(app)._storage_dead
    assert sent == []


def test_a_view_is_counted_once_when_redis_goes_away_meanwhile(own_servers: LocalServers) -> None:
    """Between the count and the view another request may find Redis dead."""
    app = make_app(OneTripLimiter, own_servers.redis_url)
    with app.application.test_request_context("/one", headers={"X-Caller": "ann"}):
        app.application.preprocess_request()
        limiter_of(app)._storage_dead = True
        assert app.application.view_functions["one"]() == "one"
        assert {str(each.limit) for each in limiter_of(app).current_limits} >= {"2 per 1 minute", "4 per 1 hour"}
        assert all(isinstance(each, CountedLimit) for each in limiter_of(app).current_limits)


def test_what_was_counted_without_redis_is_told_without_redis(own_servers: LocalServers) -> None:
    """Redis comes back, and may go again, while a view waits: the answer that is due asks nothing more."""
    app = make_app(OneTripLimiter, own_servers.redis_url)
    own_servers.valkey.stop()
    with app.application.test_request_context("/one", headers={"X-Caller": "ann"}):
        app.application.preprocess_request()
        assert app.application.view_functions["one"]() == "one"
        answer = app.application.make_response("one")
        assert limiter_of(app)._storage_dead
        own_servers.valkey.start()
        # As another request does, which finds it back.
        limiter_of(app)._storage_dead = False
        with redis.Redis.from_url(own_servers.redis_url) as client:
            assert commands_about_limits(client, lambda: app.application.process_response(answer)) == []
        assert (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]) == ("2", "1")
