"""Requests by the thousand from one thread: as quickly as they are answered, or at a fixed rate."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# From a request's turn to its answer; the service itself gives up after twenty.
_ANSWER_S = 60.0
# How often the loop looks at the clock and at what else is to be done.
_TURN_S = 0.002
_CHUNK = 65_536


@dataclass
class Reply:
    """What became of one request; status 0: the connection ended without an answer."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    # From the moment it was due: what its sender waited for, also for a connection.
    took_s: float = 0.0


class _Connection:
    """A kept-alive connection with at most one request on its way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = self.socket.connect_ex(address)
        if refusal not in (0, errno.EINPROGRESS):
            raise OSError(refusal, "connect")
        self.turn = -1
        self.unsent = b""
        self.received = b""

    def reply(self) -> Reply | None:
        """The answer, once all of it is there."""
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return None
        status, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if len(body) < int(headers.get(b"content-length", b"0")):
            return None
        return Reply(int(status.split()[1]), headers, body)


class Storm:
    """``connections`` at most to one address; ``run`` may be called again."""

    def __init__(self, url: str, connections: int) -> None:
        where = urlsplit(url)
        self._address = (where.hostname or "", where.port or 80)
        self._most = connections

    def run(
        self, requests: Sequence[bytes], *, rate: float | None = None, meanwhile: Callable[[], object] | None = None
    ) -> list[Reply]:
        """Send each request once: ``rate`` of them a second whatever comes back, or each as a connection gets free.

        The replies in the order of the requests. ``meanwhile`` is called at every turn of the loop.
        """
        round_ = _Round(self._address, self._most, requests, rate)
        try:
            while not round_.is_over:
                round_.turn()
                if meanwhile is not None:
                    meanwhile()
            return round_.replies
        finally:
            round_.close()


class _Round:
    def __init__(self, address: tuple[str, int], most: int, requests: Sequence[bytes], rate: float | None) -> None:
        self._address, self._most, self._requests, self._rate = address, most, requests, rate
        self.replies = [Reply() for _ in requests]
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._waiting: deque[int] = deque()
        self._begun_at = time.monotonic()
        self._due_at = [self._begun_at] * len(requests)
        self._next = 0
        self._left = len(requests)

    @property
    def is_over(self) -> bool:
        if self._left:
            late_s = time.monotonic() - self._due_at[min(self._next, len(self._due_at) - 1)]
            assert late_s < _ANSWER_S, f"{self._left} requests without an answer"
        return not self._left

    def turn(self) -> None:
        self._take_due()
        while self._waiting and (self._idle or len(self._open) < self._most):
            self._begin(self._waiting.popleft())
        for descriptor, events in self._epoll.poll(_TURN_S, 512):
            self._go_on(self._open[descriptor], events)

    def _take_due(self) -> None:
        now = time.monotonic()
        while self._next < len(self._requests):
            due_at = self._begun_at if self._rate is None else self._begun_at + self._next / self._rate
            # Without a rhythm no more is taken than there are connections to send it.
            if due_at > now or (self._rate is None and len(self._waiting) >= self._most):
                return
            self._due_at[self._next] = due_at if self._rate else now
            self._waiting.append(self._next)
            self._next += 1

    def _begin(self, turn: int) -> None:
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = _Connection(self._address)
            self._open[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        connection.turn, connection.unsent, connection.received = turn, self._requests[turn], b""
        self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _go_on(self, connection: _Connection, events: int) -> None:
        try:
            if connection.unsent and events & select.EPOLLOUT:
                connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
                if not connection.unsent:
                    self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                received = connection.socket.recv(_CHUNK)
                if not received:
                    raise ConnectionResetError
                connection.received += received
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if connection.turn >= 0 and (reply := connection.reply()) is not None:
            self._end(connection, reply)
            if reply.headers.get(b"connection", b"").lower() == b"close":
                self._drop(connection)
            else:
                self._idle.append(connection)

    def _end(self, connection: _Connection, reply: Reply) -> None:
        reply.took_s = time.monotonic() - self._due_at[connection.turn]
        self.replies[connection.turn] = reply
        connection.turn = -1
        self._left -= 1

    def _drop(self, connection: _Connection) -> None:
        """The other side ended it: with a request on its way that request has no answer."""
        if connection.turn >= 0:
            self._end(connection, Reply())
        elif connection in self._idle:
            self._idle.remove(connection)
        del self._open[connection.socket.fileno()]
        self._epoll.unregister(connection.socket.fileno())
        connection.socket.close()

    def close(self) -> None:
        for connection in self._open.values():
            connection.socket.close()
        self._epoll.close()
