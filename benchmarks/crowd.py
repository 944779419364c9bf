"""The crowd: N EventSource clients in one process of their own, cheap enough not to be what is measured.

One epoll, one preallocated buffer. All clients get the same bytes, so each distinct byte string is parsed once,
strictly, and later copies are recognised by comparing; only what is cut or glued differently is parsed again.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks.companion import Companion
from benchmarks.sse_reader import GREETINGS, UPDATE, SeenEvent, SseReader, StreamError

# Streams of one address: a household, and far below the ports one address has.
_CLIENTS_PER_ADDRESS = 20
# Streams asked for and not yet greeted: enough to keep two web processes busy, few enough for their backlog.
_OPENING_AT_ONCE = 64
# Opening costs some milliseconds of the server each; ten times that is a server that hangs.
_OPEN_BASE_S, _OPEN_EACH_S = 30.0, 0.01
# The last event may need this long; a stream that has not got it by then has missed it.
_COLLECT_WAIT_S = 10.0
# More than any board; a larger backlog is read in several turns.
_BUFFER_BYTES = 65_536
_EVENTS_AT_ONCE = 512
# Distinct byte strings remembered: one for each event, and a few for odd cuts.
_KNOWN_MAX = 256
# Files besides the streams: pipes, epoll, libraries.
_SPARE_FILES = 64
_PROGRESS_S = 0.2
_FIRST_WORD_S = 30.0  # a spawned interpreter imports this package on two busy cores


@dataclass(frozen=True, slots=True)
class Address:
    """Where the streams are; ``greets``: the server sends a first event without being told anything."""

    port: int
    path: str
    greets: bool


@dataclass(frozen=True, slots=True)
class Collected:
    """What the clients got: for each version the moments (monotonic ns) at which its last byte had been read."""

    arrivals: dict[int, array[int]]
    backwards: int
    closed: int
    problem: str | None


class Crowd(Companion):
    """The driver's side: a context manager over the crowd's process."""

    def __init__(self) -> None:
        super().__init__("load client", _run)

    def open(self, address: Address, count: int, on_progress: Callable[[int], object]) -> None:
        """Return when all streams are open: greeted, or at least asked for where nobody greets.

        Raises CompanionError.
        """
        self.send(("open", address, count))
        opened = 0
        while opened < count:
            opened = self.receive(_FIRST_WORD_S + _open_wait_s(count))
            on_progress(opened)

    def collect(self, due: Sequence[int]) -> Collected:
        """Wait until every client has the last of these versions, within a bound, and return what came since before."""
        self.send(("collect", list(due), None))
        collected: Collected = self.receive(_COLLECT_WAIT_S * 3)
        return collected


def _open_wait_s(count: int) -> float:
    return _OPEN_BASE_S + count * _OPEN_EACH_S


@dataclass(slots=True, eq=False)
class _Client:
    connection: socket.socket
    reader: SseReader = field(default_factory=SseReader)
    is_open: bool = False
    # Open and between two events: the next bytes mean what they mean to every client in this state.
    is_level: bool = False
    last: int = 0


class _Clients:
    """The crowd's side."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._epoll = select.epoll()
        self._epoll.register(pipe.fileno(), select.EPOLLIN)
        self._clients: dict[int, _Client] = {}
        self._opened = 0
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._known: dict[bytes, tuple[int, ...]] = {}
        # What the client before this one got, and the versions in it.
        self._latest: bytes | None = None
        self._latest_versions: tuple[int, ...] = ()
        self._arrivals: dict[int, array[int]] = {}
        self._backwards = 0
        self._closed = 0
        self._problem: str | None = None

    def serve(self) -> None:
        """Read and obey until the driver closes the pipe."""
        while True:
            self._read(timeout_s=1.0)
            while self._pipe.poll():
                try:
                    command, first, second = self._pipe.recv()
                except EOFError:
                    return
                self._pipe.send(self._open(first, second) if command == "open" else self._collect(first))

    def _open(self, address: Address, count: int) -> int | str:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if count + _SPARE_FILES > limit:
            return f"{count} clients need more open files than the {limit} this system allows a process"
        request = (
            f"GET {address.path} HTTP/1.1\r\nHost: 127.0.0.1:{address.port}\r\nAccept: text/event-stream\r\n"
            "Cache-Control: no-cache\r\nUser-Agent: bench-stream\r\n\r\n"
        ).encode()
        deadline = time.monotonic() + _open_wait_s(count)
        told_at = 0.0
        while self._opened < count and not self._problem:
            now = time.monotonic()
            if now > deadline:
                return f"only {self._opened} of {count} streams were open in time"
            if now - told_at > _PROGRESS_S and self._opened:
                self._pipe.send(self._opened)
                told_at = now
            try:
                for number in range(len(self._clients), min(count, self._opened + _OPENING_AT_ONCE)):
                    self._connect(address, request, number)
            except OSError as error:
                return f"the server does not accept streams: {error}"
            if self._opened < count:
                self._read(timeout_s=_PROGRESS_S)
        return self._problem or self._opened

    def _connect(self, address: Address, request: bytes, number: int) -> None:
        connection = socket.socket()
        household = number // _CLIENTS_PER_ADDRESS
        connection.bind((f"127.0.{1 + household // 250}.{1 + household % 250}", 0))
        # The kernel answers for the server's backlog, so this waits only while that is full.
        connection.settimeout(_OPEN_BASE_S)
        connection.connect(("127.0.0.1", address.port))
        connection.sendall(request)
        connection.setblocking(False)
        client = _Client(connection)
        self._clients[connection.fileno()] = client
        self._epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLET)
        if not address.greets:
            self._note_open(client)

    def _note_open(self, client: _Client) -> None:
        if not client.is_open:
            client.is_open = True
            self._opened += 1

    def _collect(self, due: list[int]) -> Collected:
        deadline = time.monotonic() + _COLLECT_WAIT_S
        expected = len(self._clients)
        while time.monotonic() < deadline and len(self._arrivals.get(due[-1], ())) < expected:
            self._read(timeout_s=_PROGRESS_S)
        collected = Collected(self._arrivals, self._backwards, self._closed, self._problem)
        self._arrivals, self._known, self._latest = {}, {}, None
        return collected

    def _read(self, timeout_s: float) -> None:
        """Take what has come: one turn of the loop."""
        clients, buffer, now_ns = self._clients, self._buffer, time.monotonic_ns
        for descriptor, _ in self._epoll.poll(timeout_s, _EVENTS_AT_ONCE):
            client = clients.get(descriptor)
            if client is None:  # the driver's pipe, which the caller looks at
                continue
            count = _BUFFER_BYTES
            # Edge-triggered: a full buffer may have left something behind, anything less has not.
            while count == _BUFFER_BYTES:
                try:
                    count = client.connection.recv_into(buffer)
                except BlockingIOError:
                    break
                except OSError:
                    count = 0
                at = now_ns()
                data = bytes(buffer[:count])
                versions = self._latest_versions if client.is_level and data == self._latest else None
                if versions is None:
                    versions = self._parse(client, data)
                for version in versions:
                    if version <= client.last:
                        self._backwards += 1
                        continue
                    client.last = version
                    self._arrivals[version].append(at)

    def _parse(self, client: _Client, data: bytes) -> tuple[int, ...]:
        """The board versions that these bytes complete; remembered when they mean the same to every client."""
        was_level = client.is_level
        if was_level and (known := self._known.get(data)) is not None:
            self._latest, self._latest_versions = data, known
            return known
        try:
            events = client.reader.feed(data) if data else self._lose(client, "the server closed a stream")
        except (StreamError, ValueError) as error:
            events = self._lose(client, str(error))
        if any(event.name in GREETINGS for event in events):
            self._note_open(client)
        client.is_level = client.is_open and client.reader.is_between_events
        versions = tuple(event.version for event in events if event.name == UPDATE and event.version is not None)
        for version in versions:
            self._arrivals.setdefault(version, array("q"))
        if was_level and client.is_level and data and len(self._known) < _KNOWN_MAX:
            self._known[data] = versions
            self._latest, self._latest_versions = data, versions
        return versions

    def _lose(self, client: _Client, why: str) -> list[SeenEvent]:
        self._closed += 1
        self._problem = self._problem or why
        self._clients.pop(client.connection.fileno(), None)
        client.connection.close()
        return []


def _run(pipe: Connection) -> None:
    """The crowd's process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Nothing here is cyclic; a collection amid a burst would show as latency.
    gc.disable()
    try:
        _Clients(pipe).serve()
    except (BrokenPipeError, KeyboardInterrupt):
        # The driver has gone; the kernel closes ten thousand sockets faster than we would.
        os._exit(1)
