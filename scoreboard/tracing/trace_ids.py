"""The trace id on log lines, so that a line leads to its trace; safe to use before fork."""

from __future__ import annotations

import structlog
from opentelemetry.trace import format_trace_id, get_current_span


def add_trace_id(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """A structlog processor."""
    context = get_current_span().get_span_context()
    # A trace that isn't sampled arrives nowhere: its id would lead to nothing.
    if context.trace_flags.sampled:
        event["trace_id"] = format_trace_id(context.trace_id)
    return event
