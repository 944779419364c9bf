"""A TCP proxy between the service and Redis or Postgres, whose connections a test can break.

One thread moves all bytes. What it does to them is set from any other thread, and holds until ``heal``; ``cut`` and
``reset`` end the connections of the moment. Nothing here knows a protocol: places in it are named by bytes that pass.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["questions", "answers"]

# Bytes on their way in one direction; a faster sender waits, as on a real network.
_BUFFER_BYTES = 262_144
# What is read at once.
_CHUNK_BYTES = 65_536
# Kept of what has passed, to find words that come in two pieces: the longest that may be looked for.
WORD_MAX_BYTES = 256
# More than all processes of a service under test open together; further ones are refused at once.
_CONNECTIONS_MAX = 1_000
# The thread does what it is told in milliseconds; longer means that it died.
_ANSWER_WAIT_S = 10.0
# Without linger a closed socket sends RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class Word:
    """Bytes that the proxy watches for in one direction, and what happens where they come by.

    ``arrived`` is set when that has happened for the first time.
    """

    match: bytes
    direction: Direction
    # "hold": that connection stands still in this direction. "lose": the next answer on it never comes, and the
    # connection breaks. "mute": the answer never comes, and the connection stays.
    effect: Literal["hold", "lose", "mute"]
    # How many times more; the rest pass unharmed.
    times: int
    arrived: threading.Event = field(default_factory=threading.Event)
    #: How often it has happened.
    count: int = 0

    def wait(self, timeout_s: float = 30.0) -> None:
        """Wait until it has happened; AssertionError when it doesn't."""
        assert self.arrived.wait(timeout_s), f"{self.match!r} never came by"


@dataclass(eq=False)
class _Lane:
    """One direction of a connection."""

    direction: Direction
    source: socket.socket
    sink: socket.socket
    # Waiting to be sent, not before the moment; a word that holds it back.
    waiting: bytearray = field(default_factory=bytearray)
    not_before: float = 0.0
    held_by: Word | None = None
    tail: bytes = b""
    is_over: bool = False

    def is_ready(self, now: float) -> bool:
        return bool(self.waiting) and self.held_by is None and now >= self.not_before


@dataclass(eq=False)
class _Link:
    """A client's connection and the one to the server that belongs to it."""

    client: socket.socket
    server: socket.socket
    # Bytes of it have vanished, so nothing that comes later makes sense to either side.
    has_lost: bool = False
    # The next answer is lost because of this word.
    losing: Word | None = None
    questions: _Lane = field(init=False)
    answers: _Lane = field(init=False)

    def __post_init__(self) -> None:
        self.questions = _Lane("questions", self.client, self.server)
        self.answers = _Lane("answers", self.server, self.client)

    @property
    def lanes(self) -> tuple[_Lane, _Lane]:
        return self.questions, self.answers


class TcpProxy:
    """A running proxy in front of one server, given by its URL; a context manager."""

    def __init__(self, target_url: str) -> None:
        self._target = _place_of(target_url)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._waker, self._wakened = socket.socketpair()
        self._links: set[_Link] = set()
        self._words: list[Word] = []
        self._swallowed: set[Direction] = set()
        self._delay_s = 0.0
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="tcp-proxy", daemon=True)

    def __enter__(self) -> Self:
        for each in (self._listener, self._wakened):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop)
        self._thread.join(_ANSWER_WAIT_S)
        for each in (self._listener, self._waker, self._wakened):
            each.close()
        self._selector.close()

    # -- what a test asks ------------------------------------------------------------

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def url_for(self, url: str) -> str:
        """The URL with the proxy in the server's place."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}"))

    @property
    def connections(self) -> int:
        return len(self._links)

    # -- what a test does --------------------------------------------------------------

    def delay(self, seconds: float) -> None:
        """From now on every piece takes so much longer in each direction."""
        self._do(lambda: setattr(self, "_delay_s", seconds))

    def swallow(self, direction: Direction) -> None:
        """From now on bytes of this direction vanish; the connections stay open, and new ones are taken."""
        self._do(lambda: self._swallowed.add(direction))

    def cut(self) -> None:
        """Close the connections of the moment, as a server does that shuts down in good order."""
        self._do(lambda: self._end_all(is_polite=True))

    def reset(self) -> None:
        """Break the connections of the moment off: both sides get RST."""
        self._do(lambda: self._end_all(is_polite=False))

    def hold(self, match: bytes, direction: Direction = "questions", *, times: int = 1) -> Word:
        """A connection stands still where these bytes come by, with these bytes not yet let through."""
        return self._watch(Word(match, direction, "hold", times))

    def lose_answer(self, match: bytes, *, times: int = 1, is_silent: bool = False) -> Word:
        """The question with these bytes gets through, its answer doesn't: the server has done it, nobody knows.

        The connection then breaks; with ``is_silent`` it stays, and the client waits for ever. ``arrived`` says that
        the answer was there, so what was asked is done.
        """
        return self._watch(Word(match, "questions", "mute" if is_silent else "lose", times))

    def redirect(self, target_url: str) -> None:
        """Break all connections off; new ones lead to this server, as after a failover."""

        def turn() -> None:
            self._target = _place_of(target_url)
            self._end_all(is_polite=False)

        self._do(turn)

    def heal(self) -> None:
        """Let all through again. Connections that have lost bytes break: what follows would make no sense."""
        self._do(self._heal)

    # -- the thread --------------------------------------------------------------------

    def _watch(self, word: Word) -> Word:
        assert 0 < len(word.match) <= WORD_MAX_BYTES
        self._do(lambda: self._words.append(word))
        return word

    def _do(self, order: Callable[[], None]) -> None:
        """Have the thread do it, and wait until it is done."""
        is_done = threading.Event()
        self._orders.append((order, is_done))
        self._waker.send(b"!")
        assert is_done.wait(_ANSWER_WAIT_S), "the proxy's thread is gone"

    def _run(self) -> None:
        while not self._is_stopping:
            for key, events in self._selector.select(self._wait_s()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wakened:
                    self._follow_orders()
                elif key.data in self._links:
                    self._move(key.data, key.fd, events)
            self._send_due()

    def _wait_s(self) -> float | None:
        """How long nothing is due; None without an end."""
        due = [lane.not_before for link in self._links for lane in link.lanes if lane.waiting and not lane.held_by]
        late = [moment for moment in due if moment]
        return max(0.0, min(late) - time.monotonic()) if late and self._delay_s else None

    def _follow_orders(self) -> None:
        self._wakened.recv(_CHUNK_BYTES)
        while self._orders:
            order, is_done = self._orders.popleft()
            order()
            is_done.set()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if len(self._links) >= _CONNECTIONS_MAX:
            client.close()
            return
        server = socket.socket()
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Its outcome shows when the first bytes are sent or read.
        server.connect_ex(self._target)
        link = _Link(client, server)
        self._links.add(link)
        for each in (client, server):
            self._selector.register(each, selectors.EVENT_READ, link)

    def _move(self, link: _Link, descriptor: int, events: int) -> None:
        try:
            for lane in link.lanes:
                if events & selectors.EVENT_READ and lane.source.fileno() == descriptor:
                    self._take(link, lane)
                if events & selectors.EVENT_WRITE and lane.sink.fileno() == descriptor:
                    self._send(lane)
            self._settle(link)
        except OSError:
            self._end(link, is_polite=False)

    def _take(self, link: _Link, lane: _Lane) -> None:
        try:
            piece = lane.source.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        if not piece:
            lane.is_over = True
            return
        if lane.direction in self._swallowed:
            link.has_lost = True
        elif lane.direction == "answers" and link.losing:
            self._lose(link, link.losing)
        else:
            self._look(link, lane, piece)
            if not lane.waiting and self._delay_s:
                lane.not_before = time.monotonic() + self._delay_s
            lane.waiting += piece
            if lane.is_ready(time.monotonic()):
                self._send(lane)

    def _look(self, link: _Link, lane: _Lane, piece: bytes) -> None:
        """Look for words in what came; those of two pieces are found in the second."""
        for word in [each for each in self._words if each.direction == lane.direction and each.times > 0]:
            if word.match not in lane.tail[len(lane.tail) - len(word.match) + 1 :] + piece:
                continue
            word.times -= 1
            if word.effect == "hold":
                lane.held_by = word
                _note(word)
            else:
                link.losing = word
        lane.tail = (lane.tail + piece)[-WORD_MAX_BYTES:]

    def _lose(self, link: _Link, word: Word) -> None:
        """The answer is here and goes no further."""
        if not link.has_lost:
            link.has_lost = True
            _note(word)
        if word.effect == "lose":
            raise ConnectionResetError

    def _send(self, lane: _Lane) -> None:
        if lane.is_ready(time.monotonic()):
            with suppress(BlockingIOError):
                del lane.waiting[: lane.sink.send(lane.waiting)]

    def _send_due(self) -> None:
        if not self._delay_s:
            return
        now = time.monotonic()
        for link in [link for link in self._links if any(lane.is_ready(now) for lane in link.lanes)]:
            try:
                for lane in link.lanes:
                    self._send(lane)
                self._settle(link)
            except OSError:
                self._end(link, is_polite=False)

    def _settle(self, link: _Link) -> None:
        """Pass an end on, and say what to wait for next."""
        for lane in link.lanes:
            if lane.is_over and not lane.waiting:
                with suppress(OSError):  # It went first.
                    lane.sink.shutdown(socket.SHUT_WR)
        if all(lane.is_over and not lane.waiting for lane in link.lanes):
            self._end(link, is_polite=True)
            return
        now = time.monotonic()
        for back, forth in (link.lanes, link.lanes[::-1]):
            # The socket that one lane reads from is the one that the other writes to.
            events = 0
            if not forth.is_over and len(forth.waiting) < _BUFFER_BYTES:
                events |= selectors.EVENT_READ
            if back.is_ready(now):
                events |= selectors.EVENT_WRITE
            self._wait_for(forth.source, events, link)

    def _wait_for(self, connection: socket.socket, events: int, link: _Link) -> None:
        known = self._selector.get_map().get(connection)
        if events and known is None:
            self._selector.register(connection, events, link)
        elif events and known is not None and known.events != events:
            self._selector.modify(connection, events, link)
        elif not events and known is not None:
            self._selector.unregister(connection)

    # -- orders, carried out by the thread -----------------------------------------------

    def _heal(self) -> None:
        self._words.clear()
        self._swallowed.clear()
        self._delay_s = 0.0
        for link in list(self._links):
            if link.has_lost:
                self._end(link, is_polite=False)
                continue
            link.losing = None
            for lane in link.lanes:
                lane.held_by, lane.not_before = None, 0.0
            try:
                self._settle(link)
            except OSError:
                self._end(link, is_polite=False)

    def _end_all(self, *, is_polite: bool) -> None:
        for link in list(self._links):
            self._end(link, is_polite=is_polite)

    def _end(self, link: _Link, *, is_polite: bool) -> None:
        self._links.discard(link)
        for each in (link.client, link.server):
            if each in self._selector.get_map():
                self._selector.unregister(each)
            with suppress(OSError):  # Not connected, or broken from the other side.
                if is_polite:
                    each.shutdown(socket.SHUT_WR)
                else:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            each.close()

    def _stop(self) -> None:
        self._is_stopping = True
        self._end_all(is_polite=False)


def _place_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None, url
    assert parts.port is not None, url
    return parts.hostname, parts.port


def _note(word: Word) -> None:
    word.count += 1
    word.arrived.set()
