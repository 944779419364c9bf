"""A small, strict SSE client for the tests: frames by the WHATWG rules, collected by a thread."""

from __future__ import annotations

import codecs
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

# CR, LF and CRLF end a line; nothing else does, least of all U+2028 as str.splitlines() has it.
_LINE_END = re.compile("\r\n|\n|\r")
_FIELDS = frozenset({"event", "data", "id", "retry"})
# Four heartbeats at the default rhythm: a stream silent for longer is dead.
SILENCE_S = 60.0
# A test that collects more has lost its way.
MAX_EVENTS = 100_000


@dataclass(frozen=True)
class SseEvent:
    """A dispatched event; ``id`` is what its own frame carried, ``at`` is time.monotonic() on arrival."""

    event: str
    data: str
    id: str | None
    at: float

    def json(self) -> dict[str, Any]:
        """The data as a JSON object."""
        value = json.loads(self.data)
        assert isinstance(value, dict), f"not a JSON object: {self.data!r}"
        return value


class SseError(AssertionError):
    """The stream broke the rules, ended, or did not bring the expected event."""


class SseRefused(SseError):
    """The stream was not opened."""

    def __init__(self, status: int, headers: httpx.Headers, body: str) -> None:
        super().__init__(f"status {status}: {body[:300]}")
        self.status, self.headers, self.body = status, headers, body


class SseParser:
    """Turns bytes into events, as the section "Interpreting an event stream" of the HTML standard says.

    Stricter in one point: a line with a field of another name is an error, not ignored.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.comments = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._is_start = True
        self._ended_with_cr = False
        self._event = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this chunk completes; raises SseError on a bad stream."""
        try:
            text = self._decoder.decode(chunk)
        except UnicodeDecodeError as error:
            raise SseError(f"not UTF-8: {error}") from None
        if not text:
            return []
        if self._is_start:
            self._is_start, text = False, text.removeprefix("\ufeff")
        if self._ended_with_cr:
            # The CR has ended its line already; an LF after it belongs to it.
            self._ended_with_cr, text = False, text.removeprefix("\n")
        self._ended_with_cr = text.endswith("\r")
        *lines, self._rest = _LINE_END.split(self._rest + text)
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments += 1
            return None
        name, _, value = line.partition(":")
        self._set(name, value.removeprefix(" "))
        return None

    def _set(self, name: str, value: str) -> None:
        if name not in _FIELDS:
            raise SseError(f"unknown field {name!r}")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = self.last_event_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)

    def _dispatch(self) -> SseEvent | None:
        event = None
        if self._data:
            event = SseEvent(self._event or "message", "\n".join(self._data), self._id, time.monotonic())
        self._reset()
        return event

    def _reset(self) -> None:
        self._event = ""
        self._data = []
        self._id = None


class SseClient:
    """An open stream; a context manager.

    Connects in the constructor and raises SseRefused on any answer but 200. ``last_event_id`` is sent as the header, as
    a browser does on its own reconnect.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        last_event_id: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        sent = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **(headers or {})}
        if last_event_id is not None:
            sent["Last-Event-ID"] = last_event_id
        self.events: list[SseEvent] = []
        self.error: Exception | None = None
        self.is_ended = False
        self._is_closing = False
        self._changed = threading.Condition()
        self._parser = SseParser()
        self._http = httpx.Client(timeout=httpx.Timeout(timeout, read=SILENCE_S), cookies=dict(cookies or {}))
        self.response = self._open(url, sent, dict(params or {}))
        self._thread = threading.Thread(target=self._read, name="sse", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def last_event_id(self) -> str:
        """The id a browser would send on reconnecting; empty where none came yet."""
        return self._parser.last_event_id

    @property
    def retry_ms(self) -> int | None:
        return self._parser.retry_ms

    def named(self, *names: str) -> list[SseEvent]:
        """The events so far under these names."""
        with self._changed:
            return [event for event in self.events if event.event in names]

    def wait_for(
        self, predicate: Callable[[SseEvent], bool] | str, timeout: float = 30.0, *, after: int = 0
    ) -> SseEvent:
        """The first event, from index ``after`` on, that satisfies the predicate (or has that name).

        Past events count. Raises SseError on time-out, or when the stream has ended without it.
        """
        wanted = (lambda event: event.event == predicate) if isinstance(predicate, str) else predicate
        deadline, index = time.monotonic() + timeout, after
        with self._changed:
            while True:
                for event in self.events[index:]:
                    if wanted(event):
                        return event
                index = max(index, len(self.events))
                if self.is_ended:
                    raise SseError(f"the stream ended ({self.error or 'in order'}) without it; {self._describe()}")
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise SseError(f"nothing like it within {timeout} s; {self._describe()}")

    def wait_ended(self, timeout: float = 30.0) -> None:
        """Return when the server has ended the stream; raises SseError on time-out."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.is_ended, timeout):
                raise SseError(f"the stream is still open after {timeout} s")

    def close(self) -> None:
        """End the stream from this side and join the thread; raises what the thread found wrong with the stream."""
        self._is_closing = True
        self._shut_socket()
        self._thread.join(timeout=30)
        self.response.close()
        self._http.close()
        if isinstance(self.error, SseError):
            raise self.error

    def _open(self, url: str, headers: dict[str, str], params: dict[str, str]) -> httpx.Response:
        try:
            response = self._http.send(
                self._http.build_request("GET", url, headers=headers, params=params or None), stream=True
            )
            if response.status_code != 200:
                raise SseRefused(response.status_code, response.headers, response.read().decode(errors="replace"))
            kind = response.headers.get("Content-Type", "")
            if kind.partition(";")[0].strip().lower() != "text/event-stream":
                raise SseError(f"Content-Type is {kind!r}")
        except Exception:
            self._http.close()
            raise
        return response

    def _read(self) -> None:
        try:
            for chunk in self.response.iter_bytes():
                events = self._parser.feed(chunk)
                with self._changed:
                    self.events.extend(events)
                    if len(self.events) > MAX_EVENTS:
                        raise SseError(f"more than {MAX_EVENTS} events")
                    self._changed.notify_all()
        except Exception as error:
            # A broken connection is an end like any other, except that the test may want to see it.
            if not self._is_closing:
                self.error = error
        finally:
            with self._changed:
                self.is_ended = True
                self._changed.notify_all()

    def _shut_socket(self) -> None:
        # Closing a socket does not wake a thread that reads from it; shutting it down does.
        stream = self.response.extensions.get("network_stream")
        raw = stream.get_extra_info("socket") if stream is not None else None
        if isinstance(raw, socket.socket):
            try:
                raw.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def _describe(self) -> str:
        last = self.events[-1] if self.events else None
        return f"{len(self.events)} events, the last {last!r}"[:500]
