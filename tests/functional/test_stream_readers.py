"""Readers that are slow, dead or many: they cost a bounded amount and nobody else notices."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from scoreboard.live.connection import make_client
from scoreboard.live.stream.events import EventLog, for_everyone
from scoreboard.local import LocalServers
from scoreboard.web.server.socket_outlet import STALLED_S
from scoreboard.wire.events import Event
from tests.conftest import StartService
from tests.functional.sse import SseClient
from tests.service import Service, running_service

WAIT_S = 40.0
# Reset instead of an orderly end, as a phone that drives into a tunnel.
ABRUPT = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def crowded(local_servers: LocalServers) -> Iterator[Service]:
    with running_service(local_servers, MAX_STREAMS_PER_IP="5000", HEARTBEAT_S="1") as service:
        yield service


def open_stream(service: Service, *, receive_bytes: int | None = None) -> socket.socket:
    """A reader that has read the headers and no more."""
    connection = send_request(service, receive_bytes=receive_bytes)
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def send_request(service: Service, *, receive_bytes: int | None = None) -> socket.socket:
    """Ask for a stream and read nothing yet."""
    where = urlsplit(service.url)
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(WAIT_S)
    connection.connect((where.hostname, where.port))
    connection.sendall(b"GET /v1/leaderboard/stream HTTP/1.1\r\nHost: test\r\n\r\n")
    return connection


def streams(service: Service) -> int:
    for line in httpx.get(f"{service.url}/metrics", timeout=WAIT_S).text.splitlines():
        if line.startswith("scoreboard_streams "):
            return int(float(line.split()[1]))
    raise AssertionError("no such metric")


def until(condition: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def web_processes(service: Service) -> list[psutil.Process]:
    """The web workers: children of the gunicorn that listens on the port."""
    port = urlsplit(service.url).port
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name().startswith("gunicorn") and any(c.laddr.port == port for c in listening(process))
    ]


def listening(process: psutil.Process) -> list[Any]:
    with suppress(psutil.Error):
        return [each for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    return []


def come_and_go(service: Service, count: int) -> None:
    """So many readers open a stream and vanish without a word."""
    with ExitStack() as closing:
        for _ in range(count):
            connection = closing.enter_context(open_stream(service))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
        until(lambda: streams(service) == count)
    until(lambda: streams(service) == 0)


@pytest.mark.timeout(240)
def test_a_thousand_abrupt_ends_leave_nothing_behind(crowded: Service) -> None:
    # Pools and arenas are filled by the first thousand; the second has to live in what that left.
    come_and_go(crowded, 1_000)
    processes = web_processes(crowded)
    assert processes
    files = sum(process.num_fds() for process in processes)
    memory = sum(process.memory_info().rss for process in processes)
    come_and_go(crowded, 1_000)
    until(lambda: sum(process.num_fds() for process in processes) <= files + 4)
    # 5 MB are noise; a leak of 10 KB each would be 10 MB.
    assert sum(process.memory_info().rss for process in processes) < memory + 5_000_000


@pytest.mark.timeout(240)
def test_who_stops_reading_is_closed_and_holds_up_nobody(crowded: Service) -> None:
    event_log = EventLog(make_client(crowded.redis_url))
    with SseClient(f"{crowded.url}/v1/leaderboard/stream") as reader, ExitStack() as closing:
        reader.wait_for("leaderboard:initial")
        dead = closing.enter_context(open_stream(crowded, receive_bytes=4_096))
        until(lambda: streams(crowded) == 2)
        # Far more than the kernel holds for one connection: the dead reader's share has to wait, or go.
        for number in range(200):
            event_log.publish([for_everyone(Event("notice", {"n": number, "text": "x" * 4_000}))])
        reader.wait_for(lambda event: event.event == "notice" and event.json()["n"] == 199, WAIT_S)
        assert [event.json()["n"] for event in reader.named("notice")] == list(range(200))
        assert streams(crowded) == 2
        until(lambda: streams(crowded) == 1, STALLED_S + WAIT_S)
        # The kernel still hands over what it held, then the end.
        with suppress(ConnectionError):
            while dead.recv(65_536):
                pass


def test_a_slow_reader_gets_the_newest_board_and_whole_events(start_service: StartService) -> None:
    service = start_service(BROADCAST_INTERVAL_MS="0")
    event_log = EventLog(make_client(service.redis_url))
    with open_stream(service, receive_bytes=4_096) as slow:
        until(lambda: streams(service) == 1)
        for number in range(100):
            event_log.publish([for_everyone(Event("notice", {"n": number, "text": "x" * 4_000}))])
        register(service, "Newcomer")
        body = bytearray()
        until_in = time.monotonic() + WAIT_S
        while b"Newcomer" not in body and time.monotonic() < until_in:
            body += slow.recv(65_536)
        assert b"Newcomer" in body
        # Every chunk that came is whole: sizes and contents agree all the way.
        rest = bytes(body).partition(b"\r\n\r\n")[2]
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                break
            assert rest[length : length + 2] == b"\r\n"
            rest = rest[length + 2 :]


def register(service: Service, name: str) -> None:
    body = {"username": name, "email": f"{name.lower()}@example.org", "password": "a long enough pass phrase"}
    assert httpx.post(f"{service.url}/v1/auth/register", json=body, timeout=WAIT_S).status_code == 201


def test_servers_without_a_socket_to_hand_over_stream_the_same(crowded: Service) -> None:
    # HTTP/1.0 has no chunks: the generator serves it.
    where = urlsplit(crowded.url)
    with socket.create_connection((where.hostname, where.port), WAIT_S) as connection:
        connection.sendall(b"GET /v1/leaderboard/stream HTTP/1.0\r\n\r\n")
        body = bytearray()
        while b"event: heartbeat" not in body:
            received = connection.recv(65_536)
            assert received, bytes(body)
            body += received
    assert b"Transfer-Encoding" not in body
    assert b"event: leaderboard:initial" in body
