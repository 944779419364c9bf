"""An answer on its way to the socket: the head goes out together with the first of the body, in one send."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.utils import formatdate
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn import SERVER

# The stubs don't know these yet.
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName  # type: ignore[attr-defined]
from gunicorn.http.message import TOKEN_RE
from gunicorn.util import is_hoppish

from scoreboard.web.server.request_head import RequestHead

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

# Everything below a space but the tab, and DEL: what would end or break a line of the head.
_CONTROLS = bytes([*range(9), *range(10, 32), 127])
_STATUS = re.compile(r"[0-9]{3}( [ \t\x21-\x7e\x80-\xff]*)?")
_FIELD_VALUE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")
_LAST_CHUNK = b"0\r\n\r\n"


class ResponseWriter:
    """One answer: ``start_response`` is WSGI's, then ``write`` any number of times and ``finish``."""

    __slots__ = (
        "_connection", "_headers", "_is_chunked", "_left", "_omits_body", "_request", "_status", "is_begun", "is_last",
    )  # fmt: skip

    def __init__(self, connection: Any, request: RequestHead, *, is_last: bool) -> None:
        """``is_last``: no other request will be taken from this connection."""
        self._connection = connection
        self._request = request
        self._status: str | None = None
        self._headers: list[tuple[str, str]] = []
        self._is_chunked = False
        self._omits_body = False
        # Bytes of the body that are still to come, where their number was stated.
        self._left: int | None = None
        self.is_begun = False
        self.is_last = is_last

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """WSGI's. Raises ValueError, InvalidResponseHeader or -Name for what would not be HTTP."""
        if exc_info is not None:
            if self.is_begun and exc_info[1] is not None:
                raise exc_info[1]
        elif self._status is not None:
            raise AssertionError("the answer has been started already")
        if not _STATUS.fullmatch(status):
            raise ValueError("invalid status")
        self._status = status
        self._omits_body = self._request.method == "HEAD" or status[:3] in ("204", "304") or status[0] == "1"
        self._take_headers(headers)
        return self.write

    def _take_headers(self, headers: list[tuple[str, str]]) -> None:
        """Keep those that are the application's to send, and see how the reader will know the body's end."""
        self._headers, self._left, self._is_chunked = [], None, False
        for header in headers:
            kind = _kind(header[0])
            if kind is _Kind.LENGTH:
                self._left = int(header[1])
                if self._must_not_state_a_length:
                    continue
            if kind is not _Kind.SERVERS_OWN:
                self._headers.append(header)
        if self._omits_body:
            self._left = None
        elif self._left is None:
            self._is_chunked = self._request.protocol == "HTTP/1.1"
            self.is_last = self.is_last or not self._is_chunked

    @property
    def _must_not_state_a_length(self) -> bool:
        """RFC 9110, 8.6: that of a 304 or of an answer to HEAD is the one that the body would have had."""
        return self._status is not None and (self._status[0] == "1" or self._status.startswith("204"))

    def write(self, data: bytes) -> None:
        """Send the next of the body. Raises TimeoutError when the client takes nothing, OSError when it has gone."""
        if not data:
            # The head waits for what comes: one send instead of two wakes the reader once.
            return
        head = b"" if self.is_begun else self._begin()
        if self._omits_body:
            data = b""
        elif self._is_chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if head or data:
            send_all(self._connection, head + data)

    def finish(self) -> None:
        """Send the end of the body. Raises as ``write``."""
        end = b"" if self.is_begun else self._begin()
        if self._is_chunked:
            end += _LAST_CHUNK
        if end:
            send_all(self._connection, end)
        # The reader would wait for the rest, or take the next answer for it.
        self.is_last = self.is_last or bool(self._left)

    def _begin(self) -> bytes:
        if self._status is None:
            raise AssertionError("the application has not started its answer")
        lines = [
            f"{self._request.protocol} {self._status}",
            f"Server: {SERVER}",
            f"Date: {_http_date(int(time.time()))}",
            "Connection: close" if self.is_last else "Connection: keep-alive",
        ]
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked")
        lines += [f"{name}: {value}" for name, value in self._headers]
        try:
            head = "\r\n".join((*lines, "", "")).encode("latin-1")
        except UnicodeEncodeError:
            raise self._invalid_header() from None
        # All values at once: only our own line ends may be in it.
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * len(lines) + 2:
            raise self._invalid_header()
        self.is_begun = True
        return head

    def _invalid_header(self) -> InvalidResponseHeader:
        """Names the field only: its value may be a secret."""
        broken = (name for name, value in self._headers if not _FIELD_VALUE.fullmatch(value))
        return InvalidResponseHeader(next(broken, "the status"))


def send_all(connection: Any, data: bytes) -> None:
    """Send these bytes, however slowly they are taken. Raises TimeoutError when none is for the socket's time-out."""
    sent = connection.send(data)
    while sent < len(data):
        sent += connection.send(memoryview(data)[sent:])


class _Kind(Enum):
    """Whose a header is."""

    ANY = "any"
    LENGTH = "length"
    # Those of the connection, not of the answer.
    SERVERS_OWN = "server's own"


# The application uses a few dozen names.
@lru_cache(maxsize=256)
def _kind(name: str) -> _Kind:
    """Raises InvalidResponseHeaderName."""
    if not TOKEN_RE.fullmatch(name):
        raise InvalidResponseHeaderName(name)
    if name.lower() == "content-length":
        return _Kind.LENGTH
    return _Kind.SERVERS_OWN if is_hoppish(name) else _Kind.ANY


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
