"""Optional traces to OpenTelemetry and reports to Sentry, each switched on by its setting.

The libraries are imported only when their setting is given. Start them after fork.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import structlog

from config import Settings

if TYPE_CHECKING:
    from flask import Flask

Process = Literal["web", "worker"]


def init_tracing(settings: Settings, process: Process, app: Flask | None = None) -> None:
    """Start what is configured, for this process; ``app`` is given before its hooks and routes are registered."""
    init_reports(settings, process)
    if settings.otel_exporter_otlp_endpoint:
        from scoreboard.tracing.spans import start_spans

        start_spans(settings.otel_exporter_otlp_endpoint, settings.environment, process, app)


def init_reports(settings: Settings, process: Process) -> None:
    """Start Sentry alone, if it is configured; a process forked later calls it again, for connections of its own."""
    if settings.sentry_dsn:
        from scoreboard.tracing.reports import start_reports

        start_reports(settings.sentry_dsn, settings.environment, process)


def log_processors(settings: Settings) -> list[structlog.types.Processor]:
    """What tracing adds to each log line: the trace id, when there is one."""
    if not settings.otel_exporter_otlp_endpoint:
        return []
    from scoreboard.tracing.trace_ids import add_trace_id

    return [add_trace_id]
