"""Readers of the stream in a process of their own, which come back whenever their streams end, all at once."""

from __future__ import annotations

import os
import random
import resource
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks.companion import Companion
from benchmarks.sse_reader import GREETINGS, SseReader, StreamError

_PATH = "/v1/leaderboard/stream"
# Streams of one address: a household, and far below the cap on streams of an address.
_EACH_ADDRESS = 20
# Nobody listens yet: a browser waits longer, this crowd is to be a burden.
_REFUSED_AGAIN_S = 0.1
# Asked for and not answered yet, at a time: a listening queue's worth.
_OPENING_MAX = 4_000
_CHUNK = 65_536
# What the kernel takes in for a reader that does not read: little, so that the service soon notices.
_RECEIVE_BYTES = 16_384
_TURN_S = 0.05
# Files besides the streams: pipes, epoll, libraries.
_SPARE_FILES = 64
# The crowd answers between two turns, but may stand still on busy cores.
_REPORT_WAIT_S = 60.0


@dataclass
class Report:
    """What the readers have seen so far."""

    # Greeted with a board, and not ended since.
    open: int = 0
    # Answers by status; 0: the connection was refused, or ended before an answer.
    statuses: Counter[int] = field(default_factory=Counter)
    # Refusals that do not say when to come back.
    impolite: int = 0
    # Streams that ended after their greeting.
    ended: int = 0
    # Boards older than one that the same reader had been shown.
    backwards: int = 0
    # The newest board of the reader who is furthest behind; 0 while one has none.
    oldest_version: int = 0
    problem: str | None = None


class StreamCrowd(Companion):
    """The driver's side: a context manager over the readers' process."""

    def __init__(self) -> None:
        super().__init__("crowd of readers", _run)

    def open(self, port: int, count: int) -> None:
        """Begin to open so many streams, all at once; they are opened again whenever they end."""
        self.send(("open", port, count))
        self.receive(_REPORT_WAIT_S)

    def report(self) -> Report:
        self.send(("report",))
        report: Report = self.receive(_REPORT_WAIT_S)
        assert report.problem is None, report.problem
        return report

    def wait_until(self, is_right: Callable[[Report], bool], timeout_s: float) -> Report:
        deadline = time.monotonic() + timeout_s
        while not is_right(report := self.report()):
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {report}"
            time.sleep(_TURN_S)
        return report


@dataclass(eq=False)
class _Reader:
    address: str
    connection: socket.socket | None = None
    parser: SseReader = field(default_factory=SseReader)
    head: bytes = b""
    is_answered: bool = False
    is_open: bool = False
    version: int = 0


class _Readers:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._epoll = select.epoll()
        self._epoll.register(pipe.fileno(), select.EPOLLIN)
        self._port = 0
        self._readers: list[_Reader] = []
        self._by_file: dict[int, _Reader] = {}
        # When to try again, and who.
        self._due: list[tuple[float, _Reader]] = []
        self._report = Report()

    def serve(self) -> None:
        """Read, come back, and answer the driver until it closes the pipe."""
        while True:
            self._open_due()
            for descriptor, events in self._epoll.poll(_TURN_S, 1_024):
                reader = self._by_file.get(descriptor)
                if reader is not None:
                    self._go_on(reader, events)
            while self._pipe.poll():
                try:
                    message = self._pipe.recv()
                except EOFError:
                    return
                self._pipe.send(self._obey(*message))

    def _obey(self, what: str, port: int = 0, count: int = 0) -> Report | bool | str:
        if what == "report":
            self._report.oldest_version = min((each.version for each in self._readers), default=0)
            return self._report
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if count + _SPARE_FILES > limit:
            return f"{count} readers need more open files than the {limit} this system allows a process"
        self._port = port
        first = len(self._readers)
        households = [number // _EACH_ADDRESS for number in range(first, first + count)]
        new = [_Reader(f"127.1.{1 + each // 250}.{1 + each % 250}") for each in households]
        self._readers += new
        self._due += [(0.0, reader) for reader in new]
        return True

    def _open_due(self) -> None:
        now = time.monotonic()
        opening = len(self._by_file) - self._report.open
        due, self._due = self._due, []
        for at, reader in due:
            if at > now or opening >= _OPENING_MAX:
                self._due.append((at, reader))
            else:
                opening += 1
                self._connect(reader)

    def _connect(self, reader: _Reader) -> None:
        reader.connection = socket.socket()
        reader.connection.setblocking(False)
        reader.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        reader.parser, reader.head, reader.is_answered = SseReader(), b"", False
        reader.connection.bind((reader.address, 0))
        reader.connection.connect_ex(("127.0.0.1", self._port))
        self._by_file[reader.connection.fileno()] = reader
        self._epoll.register(reader.connection.fileno(), select.EPOLLOUT)

    def _go_on(self, reader: _Reader, events: int) -> None:
        connection = reader.connection
        assert connection is not None
        try:
            if events & select.EPOLLOUT:
                connection.send(f"GET {_PATH} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n".encode())
                self._epoll.modify(connection.fileno(), select.EPOLLIN)
                return
            received = connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._end(reader, _REFUSED_AGAIN_S)
        elif reader.is_answered:
            self._feed(reader, received)
        else:
            self._take_head(reader, received)

    def _take_head(self, reader: _Reader, received: bytes) -> None:
        reader.head += received
        head, separator, _ = reader.head.partition(b"\r\n\r\n")
        if not separator:
            return
        reader.is_answered = True
        status, *lines = head.decode("latin-1").split("\r\n")
        self._report.statuses[int(status.split()[1])] += 1
        if status.split()[1] == "200":
            self._feed(reader, reader.head)
            return
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        wait = headers.get("retry-after", "")
        self._report.impolite += not wait.isdigit()
        # As the service asks, and not all at the same moment again.
        self._end(reader, random.uniform(1.0, 1.5) * float(wait or 1))

    def _feed(self, reader: _Reader, received: bytes) -> None:
        try:
            events = reader.parser.feed(received)
        except StreamError as error:
            if "ended the stream" in str(error):
                self._end(reader, _REFUSED_AGAIN_S)
            else:
                self._report.problem = str(error)
            return
        for event in events:
            if event.name in GREETINGS and event.version is not None:
                if not reader.is_open:
                    reader.is_open = True
                    self._report.open += 1
                self._report.backwards += event.version < reader.version
                reader.version = max(reader.version, event.version)

    def _end(self, reader: _Reader, again_s: float) -> None:
        connection = reader.connection
        assert connection is not None
        del self._by_file[connection.fileno()]
        self._epoll.unregister(connection.fileno())
        connection.close()
        if not reader.is_answered:
            self._report.statuses[0] += 1
        if reader.is_open:
            reader.is_open = False
            self._report.open -= 1
            self._report.ended += 1
        self._due.append((time.monotonic() + again_s, reader))


def _run(pipe: Connection) -> None:
    """The readers' process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        _Readers(pipe).serve()
    except (BrokenPipeError, KeyboardInterrupt):
        # The driver has gone; the kernel closes ten thousand sockets faster than we would.
        os._exit(1)
