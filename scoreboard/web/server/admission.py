"""Admission: how many requests a process has in progress at a time. Further ones get 503 at once.

More requests than a process can do would only wait, and every wait would grow: by Little's law
the time to an answer is the number of requests in progress divided by the throughput, so a
bound on the one bounds the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from scoreboard import metrics
from scoreboard.domain.errors import ScoreboardError, ServiceUnavailable, ValidationFailed
from scoreboard.web.api.cross_origin import is_preflight, refusal_headers
from scoreboard.web.api.refusals import bare_answer
from scoreboard.web.api.stream_refusals import MIMETYPE, is_wanted, refused_frame
from scoreboard.web.server.bodies import Bodies, BodyNotTaken
from scoreboard.web.server.security_headers import STEADY_HEADERS

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

# Probes must reach a full process.
_ALWAYS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
# Requests that may wait for an outcome (`Prefer: wait`) without work: a greenlet of some 20 KB each.
PARKED_MAX = 1_000
# An overload is logged once in so many seconds, not once per refusal.
_WARN_EVERY_S = 5.0
_RETRY_AFTER_S = 1


class Admission:
    """Counts requests from the end of their body to their answer; streams leave with their first frame."""

    def __init__(
        self,
        at_once: int,
        *,
        parked_max: int = PARKED_MAX,
        headers: Sequence[tuple[str, str]] = STEADY_HEADERS,
        origins: Collection[str] = (),
    ) -> None:
        """``headers`` go with every answer; pages of the sites ``origins`` may read the refusals."""
        self._origins = origins
        self._at_once = at_once
        self._headers = headers
        self._bodies = Bodies()
        self._parked_max = parked_max
        self._lock = threading.Lock()
        self._warned_at = 0.0
        # An element per request from _enter to _leave. A list grows and shrinks in one step, without a lock.
        self._inside: list[None] = []
        self.parked = 0

    @property
    def working(self) -> int:
        """Requests in progress, without those that only wait."""
        return len(self._inside) - self.parked

    def gate(self, application: WSGIApplication) -> WSGIApplication:
        """The application behind this bound."""

        def admit(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            try:
                return self._admit(application, environ, start_response)
            finally:
                self._bodies.give_back(environ)

        return admit

    def _admit(
        self, application: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        # A page that isn't told whether it may call can't see the refusal either.
        is_let_in = environ.get("PATH_INFO") in _ALWAYS or is_preflight(environ)
        try:
            # A full process refuses without a look at the body.
            has_room = (is_let_in or self.working < self._at_once) and self._bodies.take(environ)
        except BodyNotTaken:
            return self._refuse_body(environ, start_response)
        if not has_room:
            return self._refuse(environ, start_response)
        if not self._enter() and not is_let_in:
            self._leave()
            return self._refuse(environ, start_response)
        try:
            return application(environ, self._with_headers(start_response))
        finally:
            self._leave()

    def _with_headers(self, start_response: StartResponse) -> StartResponse:
        """Every answer's headers go along here: each that goes through a response object costs 2 µs on its way."""

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            return start_response(status, [*headers, *self._headers], exc_info)

        return start

    @contextmanager
    def pause(self) -> Iterator[bool]:
        """Let others in while this request only waits; false when too many wait, and this one had better not."""
        with self._lock:
            may_wait = self.parked < self._parked_max
            self.parked += may_wait
        try:
            yield may_wait
        finally:
            with self._lock:
                self.parked -= may_wait

    def _enter(self) -> bool:
        self._inside.append(None)
        return self.working <= self._at_once

    def _leave(self) -> None:
        self._inside.pop()

    def _refuse(self, environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
        metrics.SHED.inc()
        if time.monotonic() - self._warned_at > _WARN_EVERY_S:
            self._warned_at = time.monotonic()
            log.warning("overloaded", working=self.working, parked=self.parked, hint="add web processes")
        more = refusal_headers(environ, self._origins)
        if is_wanted(str(environ.get("PATH_INFO")), str(environ.get("QUERY_STRING")), 503):
            return self._refuse_as_event(start_response, more)
        retry_after = ("Retry-After", str(_RETRY_AFTER_S))
        return self._answer(start_response, "503 SERVICE UNAVAILABLE", _FULL, [retry_after, *more])

    def _refuse_as_event(self, start_response: Callable[..., object], more: list[tuple[str, str]]) -> Iterable[bytes]:
        error = {"code": _FULL.code, "message": _FULL.message, "details": {}}
        frame = refused_frame(503, error, _RETRY_AFTER_S)
        own = [("Content-Type", MIMETYPE), ("Content-Length", str(len(frame))), ("Cache-Control", "no-store")]
        start_response("200 OK", [*own, *more, *self._headers])
        return [frame]

    def _refuse_body(self, environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
        metrics.REFUSALS.labels(_NO_BODY.code).inc()
        return self._answer(start_response, "400 BAD REQUEST", _NO_BODY, refusal_headers(environ, self._origins))

    def _answer(
        self, start_response: Callable[..., object], status: str, error: ScoreboardError, more: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        headers, body = bare_answer(error.code, error.message)
        start_response(status, [*headers, *more, *self._headers])
        return [body]


_FULL = ServiceUnavailable(_RETRY_AFTER_S)
_NO_BODY = ValidationFailed(message="The body is malformed, incomplete or too slow.")
