"""The proxy does to a connection what it says, and nothing else."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.faults.tcp_proxy import TcpProxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):  # A test broke the connection.
            while piece := self.request.recv(65_536):
                self.request.sendall(piece)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    """In front of a server that says back what it hears."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with TcpProxy(f"tcp://127.0.0.1:{server.server_address[1]}") as proxy:
            yield proxy
        server.shutdown()


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with connected(proxy) as connection:
        yield connection


def connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def echo(client: socket.socket, said: bytes) -> bytes:
    """What comes back."""
    client.sendall(said)
    return hear(client, len(said))


def hear(client: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count and (piece := client.recv(count - len(heard))):
        heard += piece
    return heard


def assert_silent(client: socket.socket) -> None:
    """Nothing comes for some time; there is nothing else to wait for."""
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)


def test_passes_everything_on_in_order(proxy: TcpProxy, client: socket.socket) -> None:
    said = b"".join(number.to_bytes(4, "big") for number in range(500_000))
    writer = threading.Thread(target=client.sendall, args=(said,))
    writer.start()
    assert hear(client, len(said)) == said
    writer.join()


def test_url_keeps_everything_but_the_place(proxy: TcpProxy) -> None:
    assert proxy.url_for("redis://:p%40ss@10.0.0.1:6379/0?a=b") == f"redis://:p%40ss@127.0.0.1:{proxy.port}/0?a=b"
    assert proxy.url_for("tcp://db:5432") == f"tcp://127.0.0.1:{proxy.port}"


def test_cut_is_an_end_and_reset_a_break(proxy: TcpProxy) -> None:
    with connected(proxy) as first, connected(proxy) as second:
        assert echo(first, b"1") == b"1"
        proxy.cut()
        assert first.recv(1) == b""
        with connected(proxy) as third:
            assert echo(third, b"3") == b"3"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                third.recv(1)
        assert second.recv(1) == b""


def test_an_end_is_passed_on(proxy: TcpProxy, client: socket.socket) -> None:
    client.sendall(b"the last words")
    client.shutdown(socket.SHUT_WR)
    assert hear(client, 100) == b"the last words"


def test_delays_and_heals(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.delay(0.2)
    begun_at = time.monotonic()
    assert echo(client, b"slow") == b"slow"
    assert time.monotonic() - begun_at >= 0.4  # there and back
    proxy.delay(30)
    client.sendall(b"slower")
    proxy.heal()
    assert hear(client, 6) == b"slower"


@pytest.mark.parametrize("direction", ["questions", "answers"])
def test_swallows_and_breaks_what_lost_bytes(proxy: TcpProxy, client: socket.socket, direction: str) -> None:
    with connected(proxy) as other:
        assert echo(other, b"before") == b"before"
        proxy.swallow("questions" if direction == "questions" else "answers")
        client.sendall(b"lost")
        assert_silent(client)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert echo(other, b"after") == b"after"


def test_holds_a_word_that_comes_in_two_pieces(proxy: TcpProxy, client: socket.socket) -> None:
    held = proxy.hold(b"COMMIT")
    with connected(proxy) as other:
        assert echo(client, b"one COM") == b"one COM"
        client.sendall(b"MIT two")
        held.wait()
        assert_silent(client)
        assert echo(other, b"COMMIT") == b"COMMIT"  # only once
        proxy.heal()
        assert hear(client, 7) == b"MIT two"


def test_loses_one_answer_alone(proxy: TcpProxy, client: socket.socket) -> None:
    lost = proxy.lose_answer(b"COMMIT")
    assert echo(client, b"BEGIN") == b"BEGIN"
    assert not lost.arrived.is_set()
    client.sendall(b"COMMIT")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    lost.wait()
    assert lost.count == 1
    with connected(proxy) as other:
        assert echo(other, b"COMMIT") == b"COMMIT"


def test_loses_one_answer_in_silence(proxy: TcpProxy, client: socket.socket) -> None:
    lost = proxy.lose_answer(b"COMMIT", is_silent=True)
    client.sendall(b"COMMIT")
    lost.wait()
    assert_silent(client)
    assert proxy.connections == 1


def test_a_server_that_is_gone_is_a_broken_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    # While it connects, or at the first look.
    with TcpProxy(f"tcp://127.0.0.1:{port}") as proxy, pytest.raises(ConnectionResetError), connected(proxy) as client:
        client.recv(1)


def test_leads_to_another_server(proxy: TcpProxy, client: socket.socket) -> None:
    assert echo(client, b"first") == b"first"
    with socket.create_server(("127.0.0.1", 0)) as other:
        proxy.redirect(f"tcp://127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with connected(proxy) as turned:
            turned.sendall(b"second")
            accepted, _ = other.accept()
            with accepted:
                assert hear(accepted, 6) == b"second"
