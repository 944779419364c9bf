"""Optional reporting to OpenTelemetry and Sentry, switched on by their environment variables."""

from __future__ import annotations

from importlib import import_module

import structlog

from config import Settings

log = structlog.get_logger(__name__)


def init_tracing(settings: Settings, process: str) -> None:
    """Start what is configured; a library that is not installed is named in the log and left out."""
    if settings.sentry_dsn:
        _start_sentry(settings.sentry_dsn, settings.environment, process)
    if settings.otel_exporter_otlp_endpoint:
        log.warning("tracing_unavailable", hint="run the process under opentelemetry-instrument")


def _start_sentry(dsn: str, environment: str, process: str) -> None:
    try:
        sentry = import_module("sentry_sdk")
    except ImportError:
        log.warning("sentry_unavailable", hint="pip install sentry-sdk")
        return
    sentry.init(dsn=dsn, environment=environment, server_name=process, send_default_pii=False)
