"""The connection loop: one request after the other from one socket, each answered before the next is read.

It takes the place of gunicorn's own in ``StreamWorker``: the head is parsed in C, and head and body of an answer
go out in one send. Bodies that have not come with their head are read by gunicorn's readers.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gevent
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.unreader import SocketUnreader

from scoreboard.web.server.bodies import WholeBody
from scoreboard.web.server.giving_away import was_given_away
from scoreboard.web.server.request_head import END, HEAD_MAX_BYTES, HeadLimits, HeadParser, RequestHead, check_trailers
from scoreboard.web.server.response import ResponseWriter, send_all

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# A head and an honest body in one piece. Pipelined bytes behind them wait here up to so many, then in the kernel.
_RECEIVE_BYTES = 8_192
# A client that takes not a byte of its answer for so long has stopped reading, one that sends none of what it has begun
# has stopped sending.
STALLED_S = 30.0
# Of an unwanted body, thrown away at a time.
_DISCARD_BYTES = 65_536
# A sender that is refused half-way needs a moment to stop, or the reset destroys the answer on its way.
_LINGER_S = 2.0
_LINGER_BYTES = 1_048_576
_READABLE = 1
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger("gunicorn.error")


@dataclass(frozen=True, slots=True)
class Serving:
    """The state that all connections of a worker share."""

    application: WSGIApplication
    limits: HeadLimits
    # False as soon as the worker is to stop: every answer is the last of its connection then.
    is_alive: Callable[[], bool]
    # Surrounds the wait for a next request and ends it, silently, when it lasts too long or the worker stops.
    waiting: Callable[[], AbstractContextManager[object]]


class Connection:
    """One accepted socket. A slow or silent sender holds nothing but its greenlet and some kilobytes."""

    __slots__ = ("_base", "_body", "_received", "_serving", "_socket", "_unreader", "_watcher", "request")

    def __init__(self, connection: Any, base: dict[str, Any], serving: Serving) -> None:
        """``base``: the part of the environ that all its requests share."""
        self._socket = connection
        connection.settimeout(STALLED_S)
        self._base = base
        self._serving = serving
        # Read from the socket and not used yet.
        self._received = b""
        # The present request's body, where it has not come with the head.
        self._body: Body | None = None
        self._unreader: SocketUnreader | None = None
        self._watcher = gevent.get_hub().loop.io(connection.fileno(), _READABLE)
        # The one being answered, for the words about its failure.
        self.request: RequestHead | None = None

    def serve(self) -> None:
        """Answer requests until either side has had enough, or the connection was given away.

        Raises ParseException for what is not HTTP, OSError when the socket fails, and whatever the application
        raised before its answer began.
        """
        try:
            while (request := self._next_request()) is not None:
                self.request = request
                if not self._answer(request):
                    break
                self.request = None
        finally:
            self._watcher.close()

    # -- reading ---------------------------------------------------------------------

    def _next_request(self) -> RequestHead | None:
        with self._serving.waiting():
            if self._skip_body():
                self._let_others_go_first()
                return self._read_head()
        return None

    def _let_others_go_first(self) -> None:
        """Wait for the next request in the event loop, where all connections take turns.

        A sender that is quick enough, or pipelines, would be answered again and again and keep the others waiting.
        """
        if self._received:
            gevent.sleep(0)
        else:
            gevent.get_hub().wait(self._watcher)

    def _read_head(self) -> RequestHead | None:
        """None when the sender has ended the connection. Raises ParseException at the first wrong byte."""
        parser = HeadParser(self._serving.limits)
        received, checked = self._received, 0
        self._received = b""
        while True:
            if not checked:
                received = _without_empty_line(received)
            end = received.find(END, max(0, checked - len(END) + 1))
            if end >= 0:
                break
            if checked < len(received) and received != b"\r":
                parser.feed(received[checked:])
                checked = len(received)
                self._check_begin(parser, received)
            more = self._socket.recv(_RECEIVE_BYTES)
            if not more:
                return None
            received += more
        end += len(END)
        parser.feed(received[checked:end])
        self._received = received[end:]
        return self._with_body(parser.finish(received[:end], self._base))

    def _check_begin(self, parser: HeadParser, received: bytes) -> None:
        """An invalid head, or one too long, is refused before its end has come."""
        most = self._serving.limits.line
        if received.find(b"\n", 0, most + 2) >= 0:
            parser.request_line(received)
        elif len(received) > most + 2:
            raise LimitRequestLine(len(received), most)
        if len(received) > HEAD_MAX_BYTES:
            raise LimitRequestHeaders("the head is too long")
        if parser.is_complete:
            raise InvalidRequestLine("invalid line end")

    def _with_body(self, request: RequestHead) -> RequestHead:
        length, received = request.length, self._received
        if length is not None and length <= len(received):
            request.environ["wsgi.input"] = WholeBody(received[:length])
            self._received = received[length:]
            return request
        self._unreader = SocketUnreader(self._socket)
        self._unreader.unread(received)
        self._received = b""
        reader = (
            ChunkedReader(_Trailers(self._serving.limits), self._unreader)  # type: ignore[arg-type]  # stands in for it
            if length is None
            else LengthReader(self._unreader, length)
        )
        self._body = request.environ["wsgi.input"] = Body(reader)
        return request

    def _skip_body(self) -> bool:
        """Read the rest of the last body; false when the begin of the next request can't be known."""
        if self._body is None or self._unreader is None:
            return True
        if not self._has_lost_its_place:
            with suppress(ParseException, NoMoreData):
                while self._body.read(_DISCARD_BYTES):
                    pass
                self._received = self._unreader.take_buffered()
                self._body = self._unreader = None
                return True
        return False

    # -- answering -------------------------------------------------------------------

    def _answer(self, request: RequestHead) -> bool:
        """True when another request may follow."""
        serving = self._serving
        if request.expects_continue:
            send_all(self._socket, _CONTINUE)
        writer = ResponseWriter(self._socket, request, is_last=not request.keeps_alive)
        try:
            body = serving.application(request.environ, writer.start_response)
            if was_given_away():
                return False
            try:
                # Now, not before the work: a worker may have been told to stop meanwhile.
                writer.is_last = writer.is_last or not serving.is_alive() or self._has_lost_its_place
                for data in body:
                    writer.write(data)
                writer.finish()
            finally:
                if (close := getattr(body, "close", None)) is not None:
                    close()
        except OSError:
            raise
        except Exception:
            if not writer.is_begun:
                raise
            # Half an answer is out; the connection's end is the only sign left to give.
            log.exception("Error handling request")
            return False
        return not writer.is_last

    @property
    def _has_lost_its_place(self) -> bool:
        """Whether the begin of the next request is unknown."""
        # The stubs don't know the attribute yet.
        return self._body is not None and self._body.failed  # type: ignore[attr-defined]

    # -- ending ----------------------------------------------------------------------

    @property
    def has_unread(self) -> bool:
        """Whether the sender may still be sending a body that will not be read."""
        return self._body is not None

    def linger(self) -> None:
        """End our side and let the sender finish, within bounds: a reset would take the answer from it."""
        with gevent.Timeout(_LINGER_S, False), suppress(OSError):  # type: ignore[arg-type]  # the stubs know no False
            self._socket.shutdown(socket.SHUT_WR)
            left = _LINGER_BYTES
            while left > 0 and (data := self._socket.recv(_DISCARD_BYTES)):
                left -= len(data)


class _Trailers:
    """What gunicorn's reader of chunks wants to know of a request."""

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self.limit_request_field_size = limits.field_size
        self.max_buffer_headers = HEAD_MAX_BYTES
        self.trailers: list[tuple[str, str]] = []

    def parse_headers(self, lines: bytes, *, from_trailer: bool) -> list[tuple[str, str]]:  # noqa: ARG002  # gunicorn's
        """Check them, and forget them: no caller asks for any."""
        check_trailers(lines, self._limits)
        return []


def _without_empty_line(received: bytes) -> bytes:
    """One is allowed before a request (RFC 9112, 2.2); llhttp would take any number. Raises InvalidRequestLine."""
    if received.startswith(b"\r\n"):
        received = received[2:]
    if received[:1] == b"\n" or (received[:1] == b"\r" and len(received) > 1):
        raise InvalidRequestLine("an empty line")
    return received
