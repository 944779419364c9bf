"""What is counted. Several processes share the figures through PROMETHEUS_MULTIPROC_DIR."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# From a cache hit to a request that is about to be given up.
_LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

REQUESTS = Counter("scoreboard_requests_total", "HTTP requests", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "scoreboard_request_seconds",
    "Time to answer an HTTP request, streams excluded",
    ["route"],
    buckets=_LATENCY_BUCKETS,
)
REFUSALS = Counter("scoreboard_refusals_total", "Refused requests by error code", ["code"])
SHED = Counter("scoreboard_shed_requests_total", "Requests told to come back because a process had enough to do")
STREAMS = Gauge("scoreboard_streams", "Open event streams", multiprocess_mode="livesum")
SETTLED = Counter("scoreboard_settled_actions_total", "Settled actions by outcome", ["state"])
SETTLE_SECONDS = Histogram(
    "scoreboard_settle_seconds", "Time to settle and announce one batch", buckets=_LATENCY_BUCKETS
)
UNANNOUNCED = Counter("scoreboard_announce_failures_total", "Batches settled while Redis was down, announced later")
SWEPT = Counter("scoreboard_swept_total", "Left-behind work picked up by the sweep", ["kind"])
BOARD_FALLBACKS = Counter("scoreboard_board_fallbacks_total", "Board reads answered by Postgres instead of Redis")
LIMIT_FALLBACKS = Counter("scoreboard_limit_fallbacks_total", "Requests limited in memory while Redis was down")
REBUILDS = Counter("scoreboard_rebuilds_total", "Rebuilds of the board from Postgres")
