"""What is counted. Several processes share the figures through PROMETHEUS_MULTIPROC_DIR."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.multiprocess import mark_process_dead

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


def forget_dead_processes(folder: Path) -> None:
    """Take the gauges of ended processes out of the sums, also after the master was killed with them.

    ``folder``: PROMETHEUS_MULTIPROC_DIR. Its processes are of this machine.
    """
    for file in folder.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue  # alive, under another account
