"""Traces by OpenTelemetry: from the HTTP request through the doorbell's message to its settlement.

A collector that is slow or away costs spans, never requests: spans wait in a bounded
queue, a background thread sends them, and what doesn't fit is dropped.
"""

from __future__ import annotations

import atexit
import logging
import time
from typing import Any

from celery.signals import before_task_publish, worker_process_shutdown
from flask import Flask
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.propagate import inject, set_global_textmap
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scoreboard import __version__
from scoreboard.tracing.clean_spans import CleanExporter
from scoreboard.tracing.doorbell_spans import trace_doorbell
from scoreboard.tracing.sampler import NothingIdle

# Some seconds of full load, at about 1.5 KB a span; past that spans are dropped.
_QUEUE_SPANS = 4_096
_BATCH_SPANS = 512
# How long a span waits for company, at most.
_DELAY_MS = 2_000
# For one attempt and for all attempts at one batch; a collector next door answers in milliseconds.
_EXPORT_TIMEOUT_S = 3.0
# The time that a stopping process gives its last spans, less than gunicorn's graceful time-out together with one
# attempt.
_FLUSH_S = 2.0
# A statement is a few hundred characters long.
_VALUE_MAX = 2_000
# Asked for all day by machines; as in scoreboard/web/door/request_log.py.
_NOT_TRACED = r"^https?://[^/]+/(health|metrics|static)\b"
# A collector that is away for an hour is said once a minute, not with each batch.
_COMPLAINT_PERIOD_S = 60.0


def start_spans(endpoint: str, environment: str, process: str, app: Flask | None) -> None:
    """Instrument this process and send its spans to ``endpoint``/v1/traces."""
    exporter = CleanExporter(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S))
    for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).addFilter(_Seldom())
    provider = _make_provider(environment, process)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=_QUEUE_SPANS,
            max_export_batch_size=_BATCH_SPANS,
            schedule_delay_millis=_DELAY_MS,
        )
    )
    trace.set_tracer_provider(provider)
    # Without baggage: what an anonymous caller sends in it would travel on through messages.
    set_global_textmap(TraceContextTextMapPropagator())
    _instrument(process, app)

    def finish(**_: Any) -> None:
        exporter.stop_within(_FLUSH_S)
        provider.shutdown()

    # Celery's pool processes leave without Python's exit handlers.
    if process == "worker":
        worker_process_shutdown.connect(finish, weak=False)
    else:
        atexit.register(finish)


def _make_provider(environment: str, process: str) -> TracerProvider:
    resource = Resource.create(
        {
            "service.name": f"scoreboard-{process}",
            "service.version": __version__,
            "deployment.environment.name": environment,
        }
    )
    provider = TracerProvider(
        resource=resource, span_limits=SpanLimits(max_attribute_length=_VALUE_MAX), shutdown_on_exit=False
    )
    # The provider's own is what OTEL_TRACES_SAMPLER says.
    provider.sampler = NothingIdle(provider.sampler)
    return provider


def _instrument(process: str, app: Flask | None) -> None:
    Psycopg2Instrumentor().instrument()
    RedisInstrumentor().instrument()
    if process == "worker":
        CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]  # partly typed
        return
    # Celery's own instrumentation never ends the span of a message sent by name, as web sends them (0.66).
    before_task_publish.connect(_send_context, weak=False)
    trace_doorbell()
    if app is not None:
        FlaskInstrumentor.instrument_app(  # type: ignore[no-untyped-call]  # untyped
            app, response_hook=_add_request_id, excluded_urls=_NOT_TRACED, enable_commenter=False
        )


def _send_context(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        inject(headers)


def _add_request_id(span: Span | None, _status: str, headers: list[tuple[str, str]]) -> None:
    if span is not None:
        request_id = next((value for name, value in headers if name.lower() == "x-request-id"), "")
        span.set_attribute("scoreboard.request_id", request_id)


class _Seldom(logging.Filter):
    """Lets a logger speak once a period."""

    _quiet_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002  # logging's signature
        now = time.monotonic()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + _COMPLAINT_PERIOD_S
        return True
