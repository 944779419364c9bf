"""Request ids, one log line and one set of figures per request, and headers that keep browsers safe."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import lru_cache
from uuid import uuid4

import structlog
from flask import Flask, Response, g, has_request_context, request
from prometheus_client import Counter, Histogram

from config import Settings
from scoreboard import metrics
from scoreboard.logs import RequestLog
from scoreboard.web.door import stream_refusals
from scoreboard.web.door.call import NOBODY
from scoreboard.web.door.client_info import logged_address

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
# Our own scripts, styles, pictures and calls, and nothing else: nothing inline, no frames. Scripts send the forms: the
# browser's own way would put a password into the address while the scripts are still on their way. Trusted Types, where
# a browser has them, refuse every text that would become markup or script.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
# Views set none of these: the gate adds them without looking for them.
STEADY_HEADERS = [
    ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    # Named sites import the module by CORS, which this leaves alone; it is for tags that ask nobody.
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
_HTTPS_HEADER = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
# Our own paths are under 100 characters; the log keeps enough of others to recognise them.
PATH_MAX = 300
# Requests that load balancers and scrapers make all day.
_QUIET_ENDPOINTS = frozenset({"health.health", "health.liveness", "health.readiness", "metrics.show_metrics", "static"})
# Clients may send any word for a method; a figure for each would grow without a bound.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def add_request_id(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """A structlog processor: under which request a line was written."""
    if has_request_context() and "request_id" in g:
        event["request_id"] = g.request_id
    return event


def steady_headers(settings: Settings) -> list[tuple[str, str]]:
    """The headers of every answer."""
    return [*STEADY_HEADERS, *([_HTTPS_HEADER] if settings.is_production else [])]


def start_request() -> None:
    """First of all hooks: the id under which everything about this request is logged."""
    given = request.headers.get("X-Request-ID")
    g.request_id = given if given and _REQUEST_ID.match(given) else uuid4().hex
    g.started_at = time.perf_counter()


class _Observer:
    """The last of all hooks, with what it needs."""

    def __init__(self, settings: Settings, processors: Sequence[structlog.types.Processor]) -> None:
        self._log = RequestLog(settings.log_level, processors)
        self._has_friends = bool(settings.cors_origins)

    def finish_request(self, response: Response) -> Response:
        seconds = time.perf_counter() - g.get("started_at", time.perf_counter())
        response.headers.add("X-Request-ID", g.get("request_id") or uuid4().hex)
        if self._has_friends:
            # A cache may not show one site the answer that was meant for another, or for none.
            response.vary.add("Origin")
        # Responses are uncacheable unless the view says otherwise, figures and redirects too.
        if "Cache-Control" not in response.headers:
            response.headers.add("Cache-Control", "no-store")
        if response.status_code not in (429, 503):
            # flask-limiter says when to retry on every answer; only a refusal should.
            response.headers.pop("Retry-After", None)
        elif "retry_after_s" in g:
            response.headers["Retry-After"] = str(g.retry_after_s)
        elif response.headers.get("Retry-After", "0").startswith(("0", "-")):
            response.headers["Retry-After"] = "1"
        self._record(response, seconds)
        if stream_refusals.is_wanted(request.path, request.query_string.decode("latin-1"), response.status_code):
            # After it was counted and logged as what it is.
            stream_refusals.become_event(response)
        return response

    def _record(self, response: Response, seconds: float) -> None:
        method, status = request.method, response.status_code
        route = request.url_rule.rule if request.url_rule else "unknown"
        _requests(method if method in _METHODS else "other", route, status).inc()
        if not response.is_streamed:
            _request_seconds(route).observe(seconds)
        if not self._log.is_wanted or (request.endpoint in _QUIET_ENDPOINTS and status < 400):
            return
        caller = g.get("identity", NOBODY).caller
        self._log.write(
            {
                "method": method,
                "path": request.path[:PATH_MAX],
                "status": status,
                "ms": round(seconds * 1000, 2),
                "user_id": str(caller.user_id) if caller else None,
                "code": g.get("error_code"),
                "ip": logged_address(request.environ),
                "request_id": g.get("request_id"),
            }
        )


# Looking a figure up by its labels costs more than counting; there are routes × statuses of them.
@lru_cache(maxsize=2_000)
def _requests(method: str, route: str, status: int) -> Counter:
    return metrics.REQUESTS.labels(method, route, status)


@lru_cache(maxsize=200)
def _request_seconds(route: str) -> Histogram:
    return metrics.REQUEST_SECONDS.labels(route)


def init_observation(app: Flask, settings: Settings, processors: Sequence[structlog.types.Processor]) -> None:
    """Register the hooks; call it before every other extension. ``processors`` add to each request's log line."""
    app.before_request(start_request)
    app.after_request(_Observer(settings, processors).finish_request)
