"""Flows over many connections in one loop: epoll, raw sockets, no framework, so that it costs little beside a server.

A flow is a request for an action and, by the same player on the same connection, its completion; or a completion
alone, where each asks for the next action.
"""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.flow_wire import ANSWER_MAX_BYTES, Issued, Player, Players, WireError, body_of

# Flows under way when the time is up; a server that needs longer hangs.
_LAST_WAIT_S = 30.0
_EVENTS_AT_ONCE = 256
_ISSUED, _ACCEPTED = b"200", b"202"
# Arrivals that wait for a free connection. Beyond that the server is not a little late: it can't bear the rate.
_WAITING_MAX = 20_000


@dataclass
class Flows:
    """What one loop did. Latencies in ms; moments by the wall clock, which is the database's on the same machine."""

    started_at: float = 0.0
    ended_at: float = 0.0
    # Completions answered with 202: within the time, and altogether.
    in_time: int = 0
    completed: int = 0
    request_ms: array[float] = field(default_factory=lambda: array("d"))
    complete_ms: array[float] = field(default_factory=lambda: array("d"))


class Channel:
    """A keep-alive connection and the flow on it."""

    __slots__ = ("action_id", "connection", "issued_at", "player", "rest", "since", "status")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.player: Player | None = None
        # What the next answer must have as its status, and when (monotonic) it began to be waited for.
        self.status = _ISSUED
        self.since = 0.0
        self.issued_at = 0.0
        self.action_id = b""
        self.rest = b""


class Loop:
    """What all loops share; ``on_accepted`` is told of each 202 at once."""

    asks_for_next = False

    def __init__(
        self,
        connections: Sequence[socket.socket],
        players: Players,
        on_accepted: Callable[[Player, bytes, float], object] | None = None,
    ) -> None:
        self._players = players
        self._on_accepted = on_accepted
        self._epoll = select.epoll()
        self._channels = {connection.fileno(): Channel(connection) for connection in connections}
        # Other things that this loop reads for somebody else, by file descriptor.
        self._readers: dict[int, Callable[[], object]] = {}
        self._busy = 0
        self._deadline = 0.0
        self.flows = Flows()
        for descriptor in self._channels:
            self._epoll.register(descriptor, select.EPOLLIN)

    def read_beside(self, connection: socket.socket, reader: Callable[[], object]) -> None:
        """Call the reader whenever this connection has something."""
        self._readers[connection.fileno()] = reader
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def read_for(self, seconds: float, is_done: Callable[[], bool]) -> None:
        """Go on reading, without new flows, until it is done or the time is up."""
        deadline = time.monotonic() + seconds
        while not is_done() and (left := deadline - time.monotonic()) > 0:
            self._turn(min(left, 0.1))

    def close(self) -> None:
        for channel in self._channels.values():
            channel.connection.close()
        self._epoll.close()

    def _begin(self, channel: Channel, since: float) -> None:
        self._request(channel, self._players.next(), since)

    def _request(self, channel: Channel, player: Player, since: float) -> None:
        channel.player, channel.status, channel.since = player, _ISSUED, since
        channel.connection.send(player.request)
        self._busy += 1

    def _turn(self, timeout_s: float) -> None:
        channels = self._channels
        for descriptor, _ in self._epoll.poll(timeout_s, _EVENTS_AT_ONCE):
            channel = channels.get(descriptor)
            if channel is None:
                self._readers[descriptor]()
                continue
            data = channel.connection.recv(ANSWER_MAX_BYTES)
            if not data:
                raise WireError("the server closed a connection")
            if channel.rest:
                data = channel.rest + data
            body = body_of(data, channel.status)
            if body is None:
                channel.rest = data
                continue
            channel.rest = b""
            if channel.status is _ISSUED:
                self._issued(channel, body)
            else:
                self._accepted(channel, body)

    def _issued(self, channel: Channel, body: bytes) -> None:
        now = time.monotonic()
        self.flows.request_ms.append((now - channel.since) * 1000)
        self._complete(channel, Issued.requested(body), now)

    def _complete(self, channel: Channel, issued: Issued, now: float) -> None:
        player = channel.player
        assert player is not None
        channel.action_id, channel.status, channel.since = issued.action_id, _ACCEPTED, now
        # It claims the time it could have had: none.
        channel.connection.send(player.completion(issued, 0, asks_for_next=self.asks_for_next))

    def _accepted(self, channel: Channel, body: bytes) -> None:  # noqa: ARG002  # for those who look for more in it
        now = time.monotonic()
        flows = self.flows
        flows.complete_ms.append((now - channel.since) * 1000)
        flows.completed += 1
        if now < self._deadline:
            flows.in_time += 1
        self._busy -= 1
        if self._on_accepted is not None and channel.player is not None:
            self._on_accepted(channel.player, channel.action_id, now)
        self._next(channel)

    def _next(self, channel: Channel) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Let the flows under way end. Raises WireError when they don't."""
        self.flows.ended_at = time.time()
        give_up_at = time.monotonic() + _LAST_WAIT_S
        while self._busy:
            if time.monotonic() > give_up_at:
                raise WireError(f"{self._busy} flows got no answer within {_LAST_WAIT_S:.0f} s")
            self._turn(1.0)


class ClosedLoop(Loop):
    """Every connection begins a flow as soon as its last one has ended."""

    def run(self, seconds: float) -> Flows:
        self.flows.started_at = time.time()
        now = time.monotonic()
        self._deadline = now + seconds
        for channel in self._channels.values():
            self._begin(channel, now)
        while (left := self._deadline - time.monotonic()) > 0:
            self._turn(min(left, 1.0))
        self._finish()
        return self.flows

    def _next(self, channel: Channel) -> None:
        if (now := time.monotonic()) < self._deadline:
            self._begin(channel, now)


class NextLoop(ClosedLoop):
    """Players whose last completion brought their next action only complete it: a call per flow.

    Actions that are left open at the end are used by the next such loop over the same players.
    """

    asks_for_next = True

    def _begin(self, channel: Channel, since: float) -> None:
        player = self._players.next()
        issued, player.issued = player.issued, None
        if issued is None or not issued.is_young:
            self._request(channel, player, since)
            return
        channel.player = player
        self._complete(channel, issued, since)
        self._busy += 1

    def _accepted(self, channel: Channel, body: bytes) -> None:
        assert channel.player is not None
        channel.player.issued = Issued.next_of(body)
        super()._accepted(channel, body)


class OpenLoop(Loop):
    """Flows begin at an even rhythm, however long the others take; latency counts from when each was due."""

    _free: list[Channel]
    _waiting: deque[float]

    def run(self, rate: float, seconds: float) -> Flows:
        self._free, self._waiting = list(self._channels.values()), deque()
        self.flows.started_at = time.time()
        started_at = time.monotonic()
        self._deadline = started_at + seconds
        number, count = 0, int(rate * seconds)
        while number < count:
            now = time.monotonic()
            while number < count and (due_at := started_at + number / rate) <= now:
                self._arrive(due_at)
                number += 1
            if (left := started_at + number / rate - time.monotonic()) > 0:
                # epoll's own time-out counts in whole milliseconds, which is longer than the rhythm.
                select.select([self._epoll], [], [], left)
            self._turn(0)
        self._finish()
        return self.flows

    def _arrive(self, due_at: float) -> None:
        if self._free:
            self._begin(self._free.pop(), due_at)
        elif len(self._waiting) < _WAITING_MAX:
            self._waiting.append(due_at)
        else:
            raise WireError("the server can't bear this rate: 20,000 arrivals wait for a connection")

    def _next(self, channel: Channel) -> None:
        if self._waiting:
            self._begin(channel, self._waiting.popleft())
        else:
            self._free.append(channel)
