"""Reads one stream: the response's head, its chunks, its events. Strict, and used only for bytes not seen before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

# The head of a response, or an event that has not ended by then, is not what we asked for.
_MAX_REST_BYTES = 262_144
GREETINGS = frozenset({"leaderboard:initial", "leaderboard:update"})
UPDATE = "leaderboard:update"


class StreamError(Exception):
    """The server refused, ended or garbled a stream."""


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """What the benchmarks want to know of an event; None where its data carry no version, or no action."""

    name: str
    version: int | None
    action_id: str | None = None


class SseReader:
    """Bytes in, complete events out, however they are cut into packets."""

    __slots__ = ("_body", "_has_head", "_is_chunked", "_raw")

    def __init__(self) -> None:
        self._raw = b""
        self._body = b""
        self._has_head = False
        self._is_chunked = False

    @property
    def is_between_events(self) -> bool:
        """Whether nothing is left over, so that what comes next means the same to every reader in this state."""
        return self._has_head and not self._raw and not self._body

    def feed(self, data: bytes) -> list[SeenEvent]:
        """The events that these bytes complete. Raises StreamError."""
        self._raw += data
        if not self._has_head and not self._take_head():
            return []
        self._take_body()
        if len(self._raw) + len(self._body) > _MAX_REST_BYTES:
            raise StreamError("an event does not end")
        *events, self._body = self._body.split(b"\n\n")
        return [seen for each in events if (seen := _parse(each)) is not None]

    def _take_head(self) -> bool:
        head, separator, rest = self._raw.partition(b"\r\n\r\n")
        if not separator:
            return False
        status, *lines = head.decode("latin-1").split("\r\n")
        if status.split()[1:2] != ["200"]:
            raise StreamError(f"the stream was refused: {status}: {rest[:300]!r}")
        headers = {name.lower(): value.strip().lower() for name, _, value in (line.partition(":") for line in lines)}
        if not headers.get("content-type", "").startswith("text/event-stream"):
            raise StreamError(f"not an event stream: {headers.get('content-type')}")
        self._is_chunked = headers.get("transfer-encoding") == "chunked"
        self._has_head, self._raw = True, rest
        return True

    def _take_body(self) -> None:
        if not self._is_chunked:
            self._body, self._raw = self._body + self._raw, b""
            return
        while (line_end := self._raw.find(b"\r\n")) >= 0:
            size = int(self._raw[:line_end].partition(b";")[0], 16)
            start, end = line_end + 2, line_end + 2 + size
            if len(self._raw) < end + 2:
                return
            if size == 0:
                raise StreamError("the server ended the stream")
            if self._raw[end : end + 2] != b"\r\n":
                raise StreamError("a chunk has not the length it says")
            self._body += self._raw[start:end]
            self._raw = self._raw[end + 2 :]


# Every stream gets the same bytes; the last few events are enough to know them again.
@lru_cache(maxsize=256)
def _parse(event: bytes) -> SeenEvent | None:
    """An event of one data line, as all servers measured here send it; None for ``retry:`` and comments."""
    fields = dict(line.partition(":")[::2] for line in event.decode().split("\n"))
    if "data" not in fields:
        return None
    data = json.loads(fields["data"])
    version, action_id = (data.get("version"), data.get("actionId")) if isinstance(data, dict) else (None, None)
    return SeenEvent(
        fields.get("event", "message").strip(),
        version if isinstance(version, int) else None,
        action_id if isinstance(action_id, str) else None,
    )
