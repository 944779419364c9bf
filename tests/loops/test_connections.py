"""What the connection loop does with slow, silent, greedy and broken senders, and when its worker stops."""

from __future__ import annotations

import datetime
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.loops.echo import LARGE_BYTES, SLOW_S
from tests.loops.servers import OURS, Server, receive_all, running

# How long the server of these tests waits for a next request.
KEEP_ALIVE_S = 2
# A busy machine adds some seconds to every wait.
BUSY_S = 6.0
# gunicorn looks once a second whether it is to stop, and once more whether all connections have ended.
STOP_S = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(OURS, tmp_path_factory.mktemp("ours"), "--keep-alive", str(KEEP_ALIVE_S)) as ours:
        yield ours


def request(path: str = "/echo", *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: service.test", *lines, "", "")).encode()


def receive(connection: socket.socket, end: bytes = b"}") -> bytes:
    """Until these bytes have come at the end of what has come."""
    received = b""
    while not received.endswith(end):
        data = connection.recv(65_536)
        assert data, received
        received += data
    return received


def seen(answer: bytes) -> dict[str, str]:
    """The environ that the echo saw."""
    environ: dict[str, str] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return environ


# -- one after the other -----------------------------------------------------------------


def test_head_and_body_come_in_one_piece(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(20):
            connection.sendall(request())
            first = connection.recv(65_536)
            assert seen(first)["PATH_INFO"] == "'/echo'"


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    count = 200
    sent = b"".join(request(f"/echo/{number}") for number in range(count))
    received = server.exchange(sent)
    assert received.count(b"HTTP/1.1 200 OK") == count
    places = [received.index(f'"PATH_INFO": "\'/echo/{number}\'"'.encode()) for number in range(count)]
    assert places == sorted(places)


def test_who_pipelines_without_end_keeps_nobody_waiting(server: Server) -> None:
    """Each connection has its turn."""
    count = 3_000
    greedy_done = threading.Event()
    received = []

    def read(connection: socket.socket) -> None:
        received.append(receive_all(connection).count(b"HTTP/1.1 200 OK"))
        greedy_done.set()

    with server.connect() as greedy, server.connect() as modest:
        reader = threading.Thread(target=read, args=(greedy,))
        reader.start()
        greedy.sendall(request() * count)
        modest.sendall(request())
        assert seen(receive(modest))
        assert not greedy_done.is_set()
        greedy.shutdown(socket.SHUT_WR)
        reader.join(BUSY_S * 5)
    assert received == [count]


def test_what_is_pipelined_waits_in_the_kernel(server: Server) -> None:
    """While one request is worked on, the process takes no more than one piece."""
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        connection.sendall(request("/slow"))
        connection.setblocking(False)
        sent, until = 0, time.monotonic() + SLOW_S / 2
        while time.monotonic() < until and sent < 50_000_000:
            try:
                sent += connection.send(request() * 1_000)
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 10_000_000


def test_a_body_that_nobody_wants_is_skipped(server: Server) -> None:
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000
    sent = request("/echo", f"Content-Length: {len(body)}", method="POST") + body + request("/next")
    received = server.exchange(sent)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert b"'/next'" in received
    assert b"smuggled" not in received


# -- slow and silent ---------------------------------------------------------------------


def test_a_head_may_come_byte_by_byte(server: Server) -> None:
    with server.connect() as connection:
        for byte in request("/echo", "X-A: b"):
            connection.sendall(bytes([byte]))
        assert seen(receive(connection))["HTTP_X_A"] == "'b'"


@pytest.mark.parametrize("begin", [b"", b"GET", request()[:-2], b"\r"])
def test_who_falls_silent_is_let_go(server: Server, begin: bytes) -> None:
    with server.connect() as connection:
        started_at = time.monotonic()
        connection.sendall(begin)
        assert connection.recv(1_000) == b""
        assert KEEP_ALIVE_S - 0.5 < time.monotonic() - started_at < KEEP_ALIVE_S + BUSY_S


def test_a_head_that_never_ends_is_let_go_although_bytes_come(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\nX: ")
        connection.settimeout(0.1)
        started_at = time.monotonic()
        while time.monotonic() - started_at < KEEP_ALIVE_S + BUSY_S:
            try:
                connection.sendall(b"a")
                if connection.recv(1_000) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - started_at < KEEP_ALIVE_S + BUSY_S


def test_the_rest_of_an_unwanted_body_is_not_waited_for_longer_than_a_request(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(request("/echo", "Content-Length: 100000", method="POST") + b"begun")
        assert seen(receive(connection))["body"] == "unread"
        assert connection.recv(1_000) == b""


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"GET /" + b"a" * 8_300, b"414"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 6_000, b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, b"431"),
        (b"GET /\r\n", b"400"),
        (b"GET / HTTP/1.1\n", b"400"),
        (b"FOO", b"400"),
        (b"GET / HTTX", b"400"),
        (b"GET / HTTP/1.1\r\nX: \0", b"400"),
        (b"GET / HTTP/1.1\r\nX : ", b"400"),
        (b"GET / HTTP/1.1\r\nX: y\r\n z", b"400"),
        (b"\n", b"400"),
        (b"\r\n\r\n", b"400"),
        (b"\x16\x03\x01", b"400"),
    ],
)
def test_what_is_wrong_already_is_refused_before_its_end(server: Server, begin: bytes, status: bytes) -> None:
    """The sender waits for the answer, and gets it whole although the server closes on bytes that it never read."""
    with server.connect() as connection:
        started_at = time.monotonic()
        connection.sendall(begin)
        answer = receive_all(connection)
        assert time.monotonic() - started_at < BUSY_S
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b'"details":{}}}')


def test_a_refused_sender_may_finish_what_it_is_at(server: Server) -> None:
    """A reset in the middle could take the answer from it."""
    with server.connect() as connection:
        connection.sendall(b"nonsense\r\n")
        assert receive(connection, b'"details":{}}}').startswith(b"HTTP/1.1 400")
        for _ in range(10):
            connection.sendall(b"a" * 20_000)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1_000) == b""


def test_who_expects_to_be_told_to_go_on_is_told(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(request("/echo", "Expect: 100-continue", "Content-Length: 5", method="PUT"))
        assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert seen(receive(connection))["body"] == "hello"


def test_a_large_answer_waits_for_its_reader(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(request("/large", "Connection: close"))
        time.sleep(0.2)
        assert len(receive_all(connection).partition(b"\r\n\r\n")[2]) == LARGE_BYTES


# -- the worker's end ----------------------------------------------------------------------


def _silent(connection: socket.socket) -> bytes:
    return b""


def _served(connection: socket.socket) -> bytes:
    connection.sendall(request())
    receive(connection)
    return b""


def _half(connection: socket.socket) -> bytes:
    connection.sendall(request()[:20])
    return b""


def _under_way(connection: socket.socket) -> bytes:
    connection.sendall(request("/slow"))
    return b"slow"


@pytest.mark.parametrize("begin", [_silent, _served, _half, _under_way])
def test_a_worker_that_stops_lets_go_of_the_idle_and_finishes_the_rest(
    tmp_path: Path, begin: Callable[[socket.socket], bytes]
) -> None:
    with running(OURS, tmp_path) as server, server.connect() as connection:
        expected = begin(connection)
        # The request is on its way before the signal.
        time.sleep(0.3)
        stopped_at = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        received = receive_all(connection)
        assert received.endswith(expected)
        assert bool(received) == bool(expected)
        if expected:
            assert b"Connection: close" in received
        server.process.wait(BUSY_S + STOP_S)
        assert time.monotonic() - stopped_at < BUSY_S + STOP_S


# -- TLS -------------------------------------------------------------------------


def _certificate(folder: Path) -> tuple[str, str]:
    """The files of a certificate that signs itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "service.test")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_tls_in_the_process_is_left_to_gunicorns_own_loop(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    with running(OURS, tmp_path, "--certfile", certificate, "--keyfile", key) as server:
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        with server.connect() as plain, context.wrap_socket(plain) as connection:
            connection.sendall(request())
            assert seen(receive(connection))["wsgi.url_scheme"] == "'https'"
        assert "gunicorn's own loop" in server.log.read_text()
