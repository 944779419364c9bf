"""The metrics. Their numbers are in ``BOOK``, which the processes of a host share, and workers send to Redis."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, values

from scoreboard.metric_values import BOOK, StoredValue

# prometheus_client asks this name for each number, and would map files into memory: see metric_values.py.
values.ValueClass = StoredValue.make

# From a cache hit to a request that is about to be given up.
_LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

REQUESTS = Counter("scoreboard_requests_total", "HTTP requests", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "scoreboard_request_seconds",
    "Time to answer an HTTP request, streams excluded",
    ["route"],
    buckets=_LATENCY_BUCKETS,
)
REFUSALS = Counter(
    "scoreboard_refusals_total", "Refused requests, rows of batches and next actions by error code", ["code"]
)
SHED = Counter(
    "scoreboard_shed_requests_total",
    "Requests refused with 503 because the process had MAX_REQUESTS_AT_ONCE in progress",
)
STREAMS = Gauge("scoreboard_streams", "Open event streams", multiprocess_mode="livesum")
SETTLED = Counter("scoreboard_settled_actions_total", "Settled actions by outcome", ["state"])
SETTLE_SECONDS = Histogram(
    "scoreboard_settle_seconds", "Time to settle and announce one batch", buckets=_LATENCY_BUCKETS
)
UNANNOUNCED = Counter("scoreboard_announce_failures_total", "Batches settled while Redis was down and announced later")
SWEPT = Counter("scoreboard_swept_total", "Unfinished work completed by the sweep", ["kind"])
BOARD_FALLBACKS = Counter("scoreboard_board_fallbacks_total", "Board reads answered by PostgreSQL instead of Redis")
LIMIT_FALLBACKS = Counter("scoreboard_limit_fallbacks_total", "Limits counted in process memory while Redis was down")
FORWARDED_PROBLEMS = Counter(
    "scoreboard_forwarded_problems_total",
    "Requests whose client address could not be read from the proxies' header",
    ["problem"],
)
DEGRADED = Counter(
    "scoreboard_degraded_total",
    "Operations degraded, deferred or skipped because a dependency was down",
    ["part", "what"],
)
REBUILDS = Counter("scoreboard_rebuilds_total", "Rebuilds of the board from PostgreSQL")

for _metric in [value for value in globals().values() if isinstance(value, (Counter, Gauge, Histogram))]:
    for _family in _metric.describe():
        BOOK.explain(_family.name, _family.documentation)
