"""Server-sent events as bytes, by the rules of the HTML standard (section 9.2)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from scoreboard.wire.encoding import to_json
from scoreboard.wire.events import Event


class Frame(bytes):
    """An event's bytes, shared by everyone it goes to."""

    @cached_property
    def chunk(self) -> bytes:
        """The same as one chunk of an HTTP/1.1 body, made once however many sockets it is written to."""
        return b"%x\r\n%s\r\n" % (len(self), self)


def frame(event: str, data: bytes, event_id: object | None = None) -> Frame:
    """One event. ``data`` is JSON on one line: orjson escapes CR and LF inside strings.

    Other separators that players may have in their names (U+2028 and the like)
    end no line here: the standard knows CR and LF only.
    """
    head = f"id: {event_id}\nevent: {event}\n" if event_id is not None else f"event: {event}\n"
    return Frame(head.encode() + b"data: " + data + b"\n\n")


def json_frame(event: str, data: Mapping[str, object], event_id: object | None = None) -> Frame:
    return frame(event, to_json(data), event_id)


def event_frame(event: Event, event_id: object | None = None) -> Frame:
    return json_frame(event.type, event.data, event_id)


def retry_frame(milliseconds: int) -> Frame:
    """How long the browser waits before it reconnects by itself."""
    return Frame(b"retry: %d\n\n" % milliseconds)
