"""Cleans spans before they leave the process: an allow-list of attributes, no texts of errors.

Libraries put query strings (tickets), addresses and whole error texts (Postgres quotes
rows in them) on spans. A list of what may go also covers what their next versions add.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status

_ALLOWED = frozenset(
    {
        # HTTP: the route with its placeholders, never the path or the query.
        "http.method",
        "http.request.method",
        "http.route",
        "http.scheme",
        "http.status_code",
        "http.response.status_code",
        "url.scheme",
        "scoreboard.request_id",
        # Statements with placeholders: psycopg2 gets values apart, redis-py's are replaced by "?".
        "db.system",
        "db.system.name",
        "db.name",
        "db.namespace",
        "db.statement",
        "db.query.text",
        "db.redis.args_length",
        "db.redis.pipeline_length",
        "celery.action",
        "celery.state",
        "celery.task_name",
        "messaging.system",
        "messaging.destination.name",
        "messaging.batch.message_count",
        "messaging.message.id",
        "messaging.message_id",
        "error.type",
    }
)
_EVENT_ALLOWED = frozenset({"exception.type", "exception.escaped"})


class CleanExporter(SpanExporter):
    """Hands cleaned spans to ``inner``; once stopping, for a bounded time."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._stop_at = float("inf")

    def stop_within(self, seconds: float) -> None:
        """After this, batches are dropped; the one on its way is bounded by its own time-out."""
        self._stop_at = time.monotonic() + seconds

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if time.monotonic() > self._stop_at:
            return SpanExportResult.FAILURE
        return self._inner.export([clean(span) for span in spans])

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def clean(span: ReadableSpan) -> ReadableSpan:
    """The same span without anything that isn't on the lists."""
    attributes = {name: value for name, value in (span.attributes or {}).items() if name in _ALLOWED}
    return ReadableSpan(
        name=_name(span, attributes),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=[_clean_event(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _name(span: ReadableSpan, attributes: Mapping[str, object]) -> str:
    """The span's own name, except where it would be an unknown path from outside."""
    if span.kind is SpanKind.SERVER and "http.route" not in attributes:
        return str(attributes.get("http.method") or attributes.get("http.request.method") or "HTTP")
    return span.name


def _clean_event(event: Event) -> Event:
    kept = {name: value for name, value in (event.attributes or {}).items() if name in _EVENT_ALLOWED}
    return Event(event.name, kept, event.timestamp)
