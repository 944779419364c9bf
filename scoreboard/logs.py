"""Structured logs: one JSON object a line, with the request's or task's id on each."""

from __future__ import annotations

import codecs
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import BinaryIO

import orjson
import structlog

# What stands for the address of a peer at a unix socket, which has none: a proxy on this machine.
UNIX_PEER = "unix"
# A busy process writes some thousand lines a second; a reader of the log sees them this much later.
_FLUSH_S = 0.2
# Texts of libraries may quote what was sent to them; the longest that says something is a stack trace.
_TEXT_MAX, _STACK_MAX = 4_000, 20_000
# Postgres quotes whole rows, and so names, addresses and password hashes, in this part of its errors.
_QUOTED_ROW = re.compile(
    r"\nDETAIL: .*?(?=\n(?:HINT|CONTEXT|LINE \d+): |\n\[SQL|\n\nThe above |\n\nDuring |\Z)", re.DOTALL
)


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
    is_utf8 = codecs.lookup(getattr(sys.stdout, "encoding", None) or "ascii").name == "utf-8"
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Not earlier: other handlers of the record, such as Sentry, want the exception itself.
                structlog.processors.format_exc_info,
                bound_texts,
                structlog.processors.JSONRenderer(serializer=_line if is_utf8 else _ascii_line),
            ],
        )
    )
    # Python's own warnings too would be lines of another kind.
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Three lines for each task, thirty times a minute when nothing happens; tasks log what they did themselves.
    for chatty in ("celery.beat", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Each limit that is reached would be logged once more here, with the caller's key.
    logging.getLogger("flask-limiter").setLevel(logging.ERROR)


def bound_texts(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """A structlog processor, behind all that make texts: no rows of the database, nothing without an end."""
    for name, value in event.items():
        if isinstance(value, str):
            longest = _STACK_MAX if name == "exception" else _TEXT_MAX
            event[name] = _QUOTED_ROW.sub("", value)[:longest]
    return event


def _line(event: object, **_: object) -> str:
    try:
        line = orjson.dumps(event, default=str)
    except TypeError:
        # Half of a surrogate pair, which UTF-8 has no bytes for.
        line = json.dumps(event, default=str).encode()
    return _visible(line).decode()


def _visible(line: bytes) -> bytes:
    """The same JSON, with an escape for every character that could move a terminal's cursor or break a viewer's line.

    JSON itself asks for those up to U+001F only; there are DEL, the C1 controls, line
    separators and marks of writing direction.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return "".join(char if char.isprintable() else _escaped(char) for char in line.decode()).encode()


def _ascii_line(event: object, **options: object) -> str:
    """The same line where the output's encoding may lack a letter."""
    return "".join(char if char.isascii() else _escaped(char) for char in _line(event, **options))


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


class RequestLog:
    """One line per request, put together and written at a small part of the cost of a log record.

    Lines stay in the stream's buffer (8 KB) for at most 0.2 s: a process that is killed
    takes those with it. Every other message, warnings and errors first of all, is
    written at once, and takes what is in the buffer along in its order.
    """

    def __init__(
        self, level: str, more: Sequence[structlog.types.Processor] = (), stream: BinaryIO | None = None
    ) -> None:
        self.is_wanted = logging.getLevelNamesMapping()[level] <= logging.INFO
        self._more = more
        self._stream = stream or sys.stdout.buffer
        self._has_news = threading.Event()
        self._flusher: threading.Thread | None = None

    def write(self, fields: structlog.types.EventDict) -> None:
        """Write a line with these fields; they are not copied."""
        fields["event"], fields["level"], fields["logger"] = "request", "info", "scoreboard.requests"
        fields["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        for processor in self._more:
            processor(None, "info", fields)
        self._stream.write(_visible(orjson.dumps(fields)) + b"\n")
        if not self._has_news.is_set():
            self._has_news.set()
            if self._flusher is None:
                # Not earlier: threads don't survive the fork of a web process.
                self._flusher = threading.Thread(target=self._flush_often, name="request-log", daemon=True)
                self._flusher.start()

    def _flush_often(self) -> None:
        while self._has_news.wait():
            time.sleep(_FLUSH_S)
            self._has_news.clear()
            self._stream.flush()
