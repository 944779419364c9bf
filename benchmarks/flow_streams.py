"""EventSource clients of the players who act, and of some who only watch, read by the loop that plays."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from benchmarks.flow_loops import Loop
from benchmarks.flow_wire import ANSWER_MAX_BYTES, Player, WireError
from benchmarks.sse_reader import UPDATE, SseReader, StreamError

STREAM_PATH = "/v1/leaderboard/stream"
_RESULT = "action:result"
# Streams of one address: a household, below the cap and the rate for opening that come with the service.
_STREAMS_PER_ADDRESS = 20
_OPEN_WAIT_S = 20.0
# The last event may need this long after its 202; what has not come by then is missed.
_LAST_WAIT_S = 10.0


class Streams:
    """Notes when a followed player's action was answered, and when its event came; whichever is first."""

    def __init__(self, port: int, followed: Sequence[Player]) -> None:
        self._port = port
        self._followed = followed
        self._ids = {player.user_id for player in followed}
        self._connections: list[socket.socket] = []
        self._answered_at: dict[str, float] = {}
        self._told_at: dict[str, float] = {}
        self._greeted: set[int] = set()
        self.board_events = 0

    def open(self, watchers: int, loop: Loop) -> None:
        """Return when all streams have had their first event. Raises WireError."""
        for token in [player.token for player in self._followed] + [None] * watchers:
            self._open(token, loop)
        expected = len(self._connections)
        loop.read_for(_OPEN_WAIT_S, lambda: len(self._greeted) == expected)
        if len(self._greeted) < expected:
            raise WireError(f"only {len(self._greeted)} of {expected} streams were open in time")
        self.board_events = 0

    def note_accepted(self, player: Player, action_id: bytes, now: float) -> None:
        if player.user_id in self._ids:
            self._answered_at[action_id.decode()] = now

    def wait_for_last(self, loop: Loop) -> None:
        loop.read_for(_LAST_WAIT_S, lambda: not self.missed)

    @property
    def missed(self) -> int:
        """Actions that were answered and never told of."""
        return len(self._answered_at.keys() - self._told_at.keys())

    def delays_ms(self) -> list[float]:
        """From the 202 to the event; none where the event came first."""
        return [
            max(0.0, (told_at - self._answered_at[action_id]) * 1000)
            for action_id, told_at in self._told_at.items()
            if action_id in self._answered_at
        ]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _open(self, token: str | None, loop: Loop) -> None:
        connection = socket.socket()
        household = len(self._connections) // _STREAMS_PER_ADDRESS
        connection.bind((f"127.0.{1 + household // 250}.{1 + household % 250}", 0))
        connection.settimeout(_OPEN_WAIT_S)
        connection.connect(("127.0.0.1", self._port))
        credentials = f"Authorization: Bearer {token}\r\n" if token else ""
        connection.sendall(
            f"GET {STREAM_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: text/event-stream\r\n"
            f"User-Agent: bench-flows\r\n{credentials}\r\n".encode()
        )
        connection.setblocking(False)
        self._connections.append(connection)
        reader = SseReader()
        loop.read_beside(connection, lambda: self._read(connection, reader))

    def _read(self, connection: socket.socket, reader: SseReader) -> None:
        data = connection.recv(ANSWER_MAX_BYTES)
        now = time.monotonic()
        if not data:
            raise WireError("the server closed a stream")
        try:
            events = reader.feed(data)
        except StreamError as error:
            raise WireError(str(error)) from error
        for event in events:
            if event.name == _RESULT and event.action_id is not None:
                self._told_at.setdefault(event.action_id, now)
            elif event.name == UPDATE:
                self.board_events += 1
        if events:
            self._greeted.add(connection.fileno())
