"""A request's body, taken whole before the request counts as work, within a bound of size and time.

A request that waited for its body inside the application would hold one of the process's places:
some hundred senders that begin a body and fall silent would keep everybody else out.
"""

from __future__ import annotations

import threading
from io import BytesIO
from typing import TYPE_CHECKING

import gevent
from gunicorn.http.errors import NoMoreData, ParseException

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# The application refuses what is larger; the largest honest body is a few kilobytes.
BODY_MAX_BYTES = 64 * 1024
# An honest body comes with its head; a phone on a bad line needs some seconds for a kilobyte.
BODY_WAIT_S = 10.0
# Bodies of a process that may be on their way at a time: 64 MB at most.
ARRIVING_MAX = 1_000


class BodyNotTaken(Exception):
    """The body is not what HTTP allows, ends before its stated length, or did not come in time."""


class WholeBody(BytesIO):
    """A body that came with its head: there is nothing to wait for."""

    __slots__ = ()


class Bodies:
    """Takes bodies from the server; counts those that are on their way."""

    def __init__(self, *, wait_s: float = BODY_WAIT_S, arriving_max: int = ARRIVING_MAX) -> None:
        self._wait_s = wait_s
        self._arriving_max = arriving_max
        self._lock = threading.Lock()
        self.arriving = 0

    def take(self, environ: WSGIEnvironment) -> bool:
        """Put the whole body into ``environ``; false when too many are on their way. Raises BodyNotTaken.

        One that states more than the limit is left where it is, as the application refuses it unread. One of
        unknown length is taken up to a byte over the limit, and states its length from then on.
        """
        length = _stated_length(environ)
        if length == 0 or (length is not None and length > BODY_MAX_BYTES):
            return True
        if isinstance(environ["wsgi.input"], WholeBody):
            return True
        with self._lock:
            if self.arriving >= self._arriving_max:
                return False
            self.arriving += 1
        try:
            body = self._read(environ, BODY_MAX_BYTES + 1 if length is None else length)
        finally:
            with self._lock:
                self.arriving -= 1
        if length is not None and len(body) < length:
            raise BodyNotTaken
        environ["wsgi.input"] = BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return True

    def _read(self, environ: WSGIEnvironment, size: int) -> bytes:
        try:
            with gevent.Timeout(self._wait_s, BodyNotTaken):
                body: bytes = environ["wsgi.input"].read(size)
        except (ParseException, NoMoreData, OSError):
            raise BodyNotTaken from None
        return body


def _stated_length(environ: WSGIEnvironment) -> int | None:
    """In bytes, 0 without a body, None for one whose length shows in the end. The server has checked the headers."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    stated = environ.get("CONTENT_LENGTH")
    return int(stated) if stated else 0
