"""An answer's way to the socket: one send, framed as HTTP wants it, and no line that the application did not mean."""

from __future__ import annotations

from typing import Any

import gevent.socket
import pytest
from gunicorn.http.errors import (  # type: ignore[attr-defined]  # the stubs don't know these yet
    InvalidResponseHeader,
    InvalidResponseHeaderName,
)

from scoreboard.web.server.request_head import RequestHead
from scoreboard.web.server.response import ResponseWriter, send_all


class Recorder:
    """A connection that takes everything, and remembers in which pieces it came."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(bytes(data))
        return len(data)


def answer(
    *body: bytes,
    status: str = "200 OK",
    headers: tuple[tuple[str, str], ...] = (),
    method: str = "GET",
    version: str = "1.1",
) -> tuple[list[bytes], bool]:
    """What is sent, and whether the connection ends with it."""
    recorder = Recorder()
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "SERVER_PROTOCOL": f"HTTP/{version}"}
    request = RequestHead(environ, length=0, keeps_alive=True, expects_continue=False)
    writer = ResponseWriter(recorder, request, is_last=False)
    writer.start_response(status, list(headers))
    for data in body:
        writer.write(data)
    writer.finish()
    return recorder.sent, writer.is_last


def length(count: int) -> tuple[tuple[str, str], ...]:
    return (("Content-Length", str(count)),)


def test_head_and_body_are_one_send() -> None:
    (sent,), is_last = answer(b"hello", headers=length(5))
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: ")
    assert b"\r\nConnection: keep-alive\r\nContent-Length: 5" in head
    assert (body, is_last) == (b"hello", False)


def test_an_answer_of_unknown_length_comes_in_chunks() -> None:
    sent, is_last = answer(b"hello", b"", b"world!")
    assert sent[0].endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert sent[1:] == [b"6\r\nworld!\r\n", b"0\r\n\r\n"]
    assert not is_last


def test_for_http_1_0_it_ends_with_the_connection() -> None:
    sent, is_last = answer(b"hello", version="1.0")
    assert sent[0].startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Connection: close" in sent[0]
    assert sent[0].endswith(b"\r\n\r\nhello")
    assert is_last


@pytest.mark.parametrize(
    ("status", "method", "states_length"),
    [("200 OK", "HEAD", True), ("304 Not Modified", "GET", True), ("204 No Content", "GET", False)],
)
def test_where_there_may_be_no_body_none_is_sent(status: str, method: str, *, states_length: bool) -> None:
    (sent,), is_last = answer(b"hello", status=status, method=method, headers=length(5))
    assert sent.endswith(b"\r\n\r\n")
    assert (b"Content-Length" in sent) is states_length
    assert not is_last


def test_no_more_is_sent_than_was_stated_and_less_ends_the_connection() -> None:
    sent, is_last = answer(b"hello", b"world", headers=length(7))
    assert b"".join(sent).endswith(b"\r\n\r\nhellowo")
    assert not is_last
    _, is_last = answer(b"hello", headers=length(7))
    assert is_last


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "\x7f", "\u20ac", "\r\n"])
def test_a_value_that_would_break_the_head_is_not_sent(value: str) -> None:
    with pytest.raises(InvalidResponseHeader):
        answer(b"hello", headers=(("X-A", value), *length(5)))


@pytest.mark.parametrize("name", ["X A", "X:A", "", "X\r\nA", "X\u00e9"])
def test_a_name_that_is_none_is_not_sent(name: str) -> None:
    with pytest.raises(InvalidResponseHeaderName):
        answer(b"hello", headers=((name, "a"), *length(5)))


@pytest.mark.parametrize("status", ["200 OK\r\nX: y", "OK", "20 OK", ""])
def test_a_status_that_is_none_is_not_sent(status: str) -> None:
    with pytest.raises(ValueError, match="status"):
        answer(b"hello", status=status)


def test_the_connection_is_the_servers_own_business() -> None:
    (sent,), _ = answer(b"hello", headers=(("Connection", "close"), ("Server", "x"), ("Keep-Alive", "9"), *length(5)))
    assert sent.count(b"Connection: ") == 1
    assert b"Server: x" not in sent
    assert b"Keep-Alive: 9" not in sent


def test_who_reads_slowly_gets_it_all() -> None:
    ours, theirs = gevent.socket.socketpair()
    data = bytes(range(256)) * 20_000

    def read() -> bytes:
        received = b""
        while piece := theirs.recv(100_000):
            received += piece
            gevent.sleep(0)
        return received

    with theirs, gevent.Timeout(60):
        reader = gevent.spawn(read)
        send_all(ours, data)
        ours.close()
        assert reader.get() == data
