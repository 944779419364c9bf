"""Request ids, one log line and one set of figures per request, and headers that keep browsers safe."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request

from scoreboard import metrics

log = structlog.get_logger("scoreboard.requests")

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
# Only our own files; data: for the picture in the address bar. No inline script or style anywhere.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_STEADY_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# Requests that load balancers and scrapers make all day.
_QUIET_ENDPOINTS = frozenset({"operations.health", "operations.show_metrics", "static"})


def start_request() -> None:
    """First of all hooks: the id under which everything about this request is logged."""
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.match(given) else uuid4().hex
    g.started_at = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def finish_request(response: Response) -> Response:
    """Last of all hooks."""
    seconds = time.perf_counter() - g.get("started_at", time.perf_counter())
    response.headers["X-Request-ID"] = g.get("request_id") or uuid4().hex
    for name, value in _STEADY_HEADERS.items():
        response.headers.setdefault(name, value)
    if response.status_code not in (429, 503):
        # flask-limiter says when to retry on every answer; only a refusal should.
        response.headers.pop("Retry-After", None)
    elif "retry_after_s" in g:
        response.headers["Retry-After"] = str(g.retry_after_s)
    elif response.headers.get("Retry-After", "0").startswith(("0", "-")):
        response.headers["Retry-After"] = "1"
    _record(response, seconds)
    return response


def _record(response: Response, seconds: float) -> None:
    route = request.url_rule.rule if request.url_rule else "unknown"
    metrics.REQUESTS.labels(request.method, route, response.status_code).inc()
    if not response.is_streamed:
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
    if request.endpoint in _QUIET_ENDPOINTS and response.status_code < 400:
        return
    caller = g.get("caller")
    log.info(
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        ms=round(seconds * 1000, 2),
        user_id=str(caller.user_id) if caller else None,
        code=g.get("error_code"),
        ip=request.remote_addr,
    )


def init_observation(app: Flask, *, is_https: bool) -> None:
    """Register the hooks; call it before every other extension."""
    app.before_request(start_request)
    app.after_request(finish_request)
    if is_https:

        @app.after_request
        def require_https(response: Response) -> Response:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
            return response
