"""A request's body, taken whole before the request counts as work, within a bound of size and time.

A request that waited for its body inside the application would hold one of the process's slots:
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
#: Paths that take more, of callers who show credentials: 200 rows with five kilobytes each, for a batch.
LARGER_BODIES = {"/v1/system/actions": 1024 * 1024}
# Larger bodies that a process holds at a time, from their first byte to the answer: 32 MB. A process works on one batch
# at a time, for some milliseconds.
LARGER_AT_ONCE = 32
# An honest body comes with its head; a phone on a bad line needs some seconds for a kilobyte.
BODY_WAIT_S = 10.0
# Bodies of a process that may be on their way at a time: 64 MB at most, and the larger ones.
ARRIVING_MAX = 1_000


# Where an environ notes that its body is a larger one.
_HELD = "scoreboard.larger_body"


class BodyNotTaken(Exception):
    """The body is not what HTTP allows, ends before its stated length, or did not come in time."""


class WholeBody(BytesIO):
    """A body that came with its head: there is nothing to wait for."""

    __slots__ = ()


class Bodies:
    """Takes bodies from the server; counts those that are on their way."""

    def __init__(
        self, *, wait_s: float = BODY_WAIT_S, arriving_max: int = ARRIVING_MAX, larger_max: int = LARGER_AT_ONCE
    ) -> None:
        self._wait_s = wait_s
        self._arriving_max = arriving_max
        self._larger_max = larger_max
        self._lock = threading.Lock()
        self.arriving = 0
        #: Bodies over ``BODY_MAX_BYTES`` that are held.
        self.larger = 0

    def take(self, environ: WSGIEnvironment) -> bool:
        """Put the whole body into ``environ``; false when too many are on their way. Raises BodyNotTaken.

        One that states more than the limit is left where it is, as the application refuses it unread. One of
        unknown length is taken up to a byte over the limit, and states its length from then on. ``give_back`` is to
        be called in any case, when the request is over.
        """
        length, most = _stated_length(environ), _limit(environ)
        if length == 0 or (length is not None and length > most):
            return True
        if isinstance(environ["wsgi.input"], WholeBody):
            return True
        is_larger = most > BODY_MAX_BYTES and (length is None or length > BODY_MAX_BYTES)
        with self._lock:
            if self.arriving >= self._arriving_max or (is_larger and self.larger >= self._larger_max):
                return False
            self.arriving += 1
            self.larger += is_larger
        if is_larger:
            environ[_HELD] = True
        try:
            body = self._read(environ, most + 1 if length is None else length)
        finally:
            with self._lock:
                self.arriving -= 1
        if length is not None and len(body) < length:
            raise BodyNotTaken
        environ["wsgi.input"] = BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return True

    def give_back(self, environ: WSGIEnvironment) -> None:
        """The request is over: another larger body may come."""
        if environ.pop(_HELD, False):
            with self._lock:
                self.larger -= 1

    def _read(self, environ: WSGIEnvironment, size: int) -> bytes:
        try:
            with gevent.Timeout(self._wait_s, BodyNotTaken):
                body: bytes = environ["wsgi.input"].read(size)
        except (ParseException, NoMoreData, OSError):
            raise BodyNotTaken from None
        return body


def _limit(environ: WSGIEnvironment) -> int:
    """In bytes. Callers without credentials will be refused, and get no room for it."""
    most = LARGER_BODIES.get(environ.get("PATH_INFO", ""))
    if most is None or not (environ.get("HTTP_AUTHORIZATION") or environ.get("HTTP_COOKIE")):
        return BODY_MAX_BYTES
    return most


def _stated_length(environ: WSGIEnvironment) -> int | None:
    """In bytes, 0 without a body, None for one whose length shows in the end. The server has checked the headers."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    stated = environ.get("CONTENT_LENGTH")
    return int(stated) if stated else 0
