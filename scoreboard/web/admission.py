"""Admission: how many requests a process works on at a time. The rest is told at once to come back.

More than a process can do would only wait, and every wait would grow: by Little's law the
time to an answer is what is under way divided by what is done in a second, so a bound on
the one bounds the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson
import structlog

from scoreboard import metrics
from scoreboard.domain.errors import ServiceUnavailable
from scoreboard.web.observe import STEADY_HEADERS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

# Whoever asks whether the process lives has to hear that it does.
_ALWAYS = frozenset({"/health", "/metrics"})
# Requests that may wait for an outcome (`Prefer: wait`) without work: a greenlet of some 20 KB each.
PARKED_MAX = 1_000
# An overload is said once in so many seconds, not once per refusal.
_WARN_EVERY_S = 5.0
_RETRY_AFTER_S = 1


class Admission:
    """Counts requests from their head to their answer; streams leave with their first frame."""

    def __init__(self, at_once: int, *, parked_max: int = PARKED_MAX) -> None:
        self._at_once = at_once
        self._parked_max = parked_max
        self._lock = threading.Lock()
        self._warned_at = 0.0
        self.working = 0
        self.parked = 0

    def gate(self, application: WSGIApplication) -> WSGIApplication:
        """The application behind this bound."""

        def admit(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if not self._enter() and environ.get("PATH_INFO") not in _ALWAYS:
                self._leave()
                return self._refuse(start_response)
            try:
                return application(environ, start_response)
            finally:
                self._leave()

        return admit

    @contextmanager
    def pause(self) -> Iterator[bool]:
        """Let others in while this request only waits; false when too many wait, and this one had better not."""
        with self._lock:
            may_wait = self.parked < self._parked_max
            self.parked += may_wait
            self.working -= may_wait
        try:
            yield may_wait
        finally:
            with self._lock:
                self.parked -= may_wait
                self.working += may_wait

    def _enter(self) -> bool:
        with self._lock:
            self.working += 1
            return self.working <= self._at_once

    def _leave(self) -> None:
        with self._lock:
            self.working -= 1

    def _refuse(self, start_response: Callable[..., object]) -> Iterable[bytes]:
        metrics.SHED.inc()
        if time.monotonic() - self._warned_at > _WARN_EVERY_S:
            self._warned_at = time.monotonic()
            log.warning("overloaded", working=self.working, parked=self.parked, hint="add web processes")
        body = orjson.dumps(
            {"success": False, "error": {"code": _ERROR.code, "message": _ERROR.message, "details": {}}}
        )
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Retry-After", str(_RETRY_AFTER_S)),
            ("X-Request-ID", uuid4().hex),
            *STEADY_HEADERS,
        ]
        start_response("503 SERVICE UNAVAILABLE", headers)
        return [body]


_ERROR = ServiceUnavailable(_RETRY_AFTER_S)
