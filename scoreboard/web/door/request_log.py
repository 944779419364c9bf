"""The last step of every request: its headers, one log line and one set of figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import structlog
from flask import has_request_context, request
from prometheus_client import Counter, Histogram

from config import Settings
from scoreboard import metrics
from scoreboard.logs import RequestLog
from scoreboard.web.api import stream_refusals
from scoreboard.web.api.answers import Answer
from scoreboard.web.api.errors import PATH_MAX
from scoreboard.web.door.client_info import logged_address
from scoreboard.web.door.rate_limits import Limits
from scoreboard.web.door.record import RecordedRequest, record_of

# Requests that load balancers and scrapers make all day.
_QUIET_ENDPOINTS = frozenset({"health.health", "health.liveness", "health.readiness", "metrics.show_metrics", "static"})
# Clients may send any word for a method; a figure for each would grow without a bound.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BAD_REQUEST = 400


def add_request_id(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """A structlog processor: under which request a line was written."""
    if has_request_context():
        event["request_id"] = record_of(request).request_id
    return event


class Finisher:
    """Finishes answers, with what that needs. ``processors`` add to each request's log line."""

    def __init__(
        self, settings: Settings, limits: Limits, processors: Sequence[structlog.types.Processor] = ()
    ) -> None:
        self._limits = limits
        self._log = RequestLog(settings.log_level, processors)
        self._has_friends = bool(settings.cors_origins)

    def finish(self, response: Answer, http: RecordedRequest) -> None:
        """Give back what a success needs not have been counted, add the headers of every answer, count and log it."""
        record = http.record
        seconds = time.perf_counter() - record.started_at
        if response.status_code < _BAD_REQUEST:
            self._limits.refund_success(record.counting)
        response.late_headers = [
            *(record.counting.shown.headers() if record.counting.shown else ()),
            ("X-Request-ID", record.request_id),
        ]
        if self._has_friends:
            # A cache may not show one site the answer that was meant for another, or for none.
            response.vary.add("Origin")
        # Responses are uncacheable unless the view says otherwise, figures and redirects too.
        if "Cache-Control" not in response.headers:
            response.headers.add("Cache-Control", "no-store")
        self._record(response, http, seconds)
        if http.path == stream_refusals.STREAM_PATH and stream_refusals.is_wanted(
            http.path, http.query_string.decode("latin-1"), response.status_code
        ):
            # After it was counted and logged as what it is.
            stream_refusals.become_event(response)

    def _record(self, response: Answer, http: RecordedRequest, seconds: float) -> None:
        method, status, rule = http.method, response.status_code, http.url_rule
        route, endpoint = ("unknown", None) if rule is None else (rule.rule, rule.endpoint)
        _requests(method if method in _METHODS else "other", route, status).inc()
        if not response.is_streamed:
            _request_seconds(route).observe(seconds)
        if not self._log.is_wanted or (status < _BAD_REQUEST and endpoint in _QUIET_ENDPOINTS):
            return
        caller = http.record.identity.caller
        self._log.write(
            {
                "method": method,
                "path": http.path[:PATH_MAX],
                "status": status,
                "ms": round(seconds * 1000, 2),
                "user_id": str(caller.user_id) if caller else None,
                "code": response.error_code,
                "ip": logged_address(http.environ),
                "request_id": http.record.request_id,
            }
        )


# Looking a figure up by its labels costs more than counting; there are routes × statuses of them.
@lru_cache(maxsize=2_000)
def _requests(method: str, route: str, status: int) -> Counter:
    return metrics.REQUESTS.labels(method, route, status)


@lru_cache(maxsize=200)
def _request_seconds(route: str) -> Histogram:
    return metrics.REQUEST_SECONDS.labels(route)
