"""Structured logs: one JSON object a line, with the request's or task's id on each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import orjson
import structlog


def configure_logging(level: str, more: Sequence[structlog.types.Processor] = ()) -> None:
    """Send structlog's and the standard library's messages to standard output as JSON, completed by ``more``."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *more,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Not earlier: whoever else takes the record, such as Sentry, wants the exception itself.
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(
                    serializer=lambda event, **_: orjson.dumps(event, default=str).decode()
                ),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Three lines for each task, thirty times a minute when nothing happens; tasks log what they did themselves.
    for chatty in ("celery.beat", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Each limit that is reached would be logged once more here, with the caller's key.
    logging.getLogger("flask-limiter").setLevel(logging.ERROR)
