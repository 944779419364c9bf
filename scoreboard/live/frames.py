"""Server-sent events as bytes, by the rules of the HTML standard (section 9.2)."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


def frame(event: str, data: bytes, event_id: object | None = None) -> bytes:
    """One event. ``data`` is JSON on one line: orjson escapes CR and LF inside strings.

    Other separators that players may have in their names (U+2028 and the like)
    end no line here: the standard knows CR and LF only.
    """
    head = f"id: {event_id}\nevent: {event}\n" if event_id is not None else f"event: {event}\n"
    return head.encode() + b"data: " + data + b"\n\n"


def json_frame(event: str, data: Mapping[str, object], event_id: object | None = None) -> bytes:
    return frame(event, orjson.dumps(data), event_id)


def retry_frame(milliseconds: int) -> bytes:
    """How long the browser waits before it reconnects by itself."""
    return b"retry: %d\n\n" % milliseconds
