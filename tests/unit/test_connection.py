"""The connection loop on sockets that do exactly what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import gevent.socket
import pytest
from gunicorn.http.errors import ParseException

from scoreboard.web.server import connection
from scoreboard.web.server.connection import Connection, Serving
from scoreboard.web.server.request_head import HeadLimits

LIMITS = HeadLimits(line=8_190, fields=60, field_size=8_190)
GET = b"GET /%b HTTP/1.1\r\nHost: service.test\r\n\r\n"
CHUNKED = b"POST /chunked HTTP/1.1\r\nHost: service.test\r\nTransfer-Encoding: chunked\r\n\r\n"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Scripted:
    """A socket on which these pieces come, one for each time it is read, and then the end."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self._end, self._other_end = gevent.socket.socketpair()
        # The event loop is to find it readable at any time.
        self._other_end.sendall(b"x")
        self.asked_for: list[int] = []
        self.sent = b""

    def fileno(self) -> int:
        return self._end.fileno()

    def settimeout(self, seconds: float | None) -> None:
        pass

    def recv(self, size: int) -> bytes:
        self.asked_for.append(size)
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def close(self) -> None:
        self._end.close()
        self._other_end.close()


class Paths:
    """An application that notes what it is asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.seen.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def serving(application: Application) -> Serving:
    is_alive, waiting = (lambda: True), nullcontext
    return Serving(application, limits=LIMITS, is_alive=is_alive, waiting=waiting)


def serve(application: Application, *pieces: bytes) -> Scripted:
    """Serve one connection on which these come. Raises what the connection does."""
    scripted = Scripted(*pieces)
    try:
        with gevent.Timeout(20):
            Connection(scripted, {"SCRIPT_NAME": ""}, serving(application)).serve()
    finally:
        scripted.close()
    return scripted


def test_a_head_may_come_in_any_pieces() -> None:
    head = GET % b"a"
    for cut in range(1, len(head)):
        paths = Paths()
        serve(paths, head[:cut], head[cut:] + GET % b"b")
        assert paths.seen == ["/a", "/b"]
    paths = Paths()
    serve(paths, *(bytes([byte]) for byte in head + GET % b"b"))
    assert paths.seen == ["/a", "/b"]


def test_no_more_is_read_than_a_piece_at_a_time() -> None:
    scripted = serve(Paths(), GET % b"a" * 10_000)
    assert max(scripted.asked_for) == 8_192


@pytest.mark.parametrize("pieces", [[GET % b"greedy" * 1_000], [GET % b"greedy"] * 1_000])
def test_connections_take_turns_also_when_ones_next_request_is_always_there(pieces: list[bytes]) -> None:
    """It pipelines, or is as quick as the answers."""
    paths = Paths()
    greedy, modest = Scripted(*pieces), Scripted(GET % b"modest")
    served = [gevent.spawn(Connection(each, {"SCRIPT_NAME": ""}, serving(paths)).serve) for each in (greedy, modest)]
    gevent.joinall(served, timeout=20, raise_error=True)
    assert paths.seen.index("/modest") < 10


@pytest.mark.parametrize("end", [b"ZZ\r\n", b"1\r\nab", b"5\n"])
def test_behind_a_body_that_is_none_nothing_is_read_and_the_answer_says_so(end: bytes) -> None:
    paths = Paths()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/chunked":
            with pytest.raises(ParseException):
                environ["wsgi.input"].read(100)
        return paths(environ, start_response)

    scripted = serve(application, CHUNKED + end + GET % b"hidden")
    assert paths.seen == ["/chunked"]
    assert b"Connection: close" in scripted.sent


def test_behind_a_body_that_fails_after_the_head_of_the_answer_nothing_is_read_either() -> None:
    paths = Paths()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        paths.seen.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        yield b"begun"
        if environ["PATH_INFO"] == "/chunked":
            with pytest.raises(ParseException):
                environ["wsgi.input"].read(100)

    # In a piece of its own, as what came with the bad chunk is lost already.
    serve(application, CHUNKED + b"ZZ\r\n", GET % b"hidden")
    assert paths.seen == ["/chunked"]


def test_who_takes_nothing_of_an_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "50000000")])
        return [b"a" * 50_000_000]

    monkeypatch.setattr(connection, "STALLED_S", 0.2)
    ours, theirs = gevent.socket.socketpair()
    with ours, theirs, gevent.Timeout(20):
        theirs.sendall(GET % b"")
        with pytest.raises(TimeoutError):
            Connection(ours, {"SCRIPT_NAME": ""}, serving(application)).serve()
