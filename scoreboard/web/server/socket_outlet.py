"""Writing to browsers without a detour: the hub sends shared bytes straight to the sockets.

The view lets gunicorn write headers and first frames, then takes a duplicate of the
socket and gives the request back: no greenlet, no request, no generator stays behind.
From then on each event costs one non-blocking ``write`` per browser. A browser that does
not take all of it gets a greenlet of its own, which drains the rest and then sends only
the newest board. One that takes nothing for half a minute is closed. Needs ``StreamWorker``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.socket import wait_write

from scoreboard.live.stream.frames import Frame
from scoreboard.live.stream.outlet import WaitingFrames

# Bytes the kernel may hold for a browser that doesn't read: a few boards.
_SEND_BUFFER_BYTES = 65_536
# A browser that has not taken a byte for so long has stopped reading.
STALLED_S = 30.0
_READABLE = 1
_LAST_CHUNK = b"0\r\n\r\n"


class SocketOutlet:
    """An outlet that writes to its socket at once. Everything runs in one thread, that of the event loop.

    Until ``attach`` frames wait: the headers go first. ``on_closed`` is called once, in a greenlet.
    """

    __slots__ = ("_fd", "_is_draining", "_on_closed", "_on_overflow", "_rest", "_waiting", "_watcher", "is_closed")

    def __init__(self) -> None:
        self._fd = -1
        # Frames that wait, only while the browser is slow or not attached yet.
        self._waiting: WaitingFrames | None = WaitingFrames()
        # The rest of a frame that went out in part; it must be finished before anything else.
        self._rest = b""
        self._is_draining = False
        self._on_overflow: Callable[[], None] = _nothing
        self._on_closed: Callable[[], None] = _nothing
        self._watcher: Any = None
        self.is_closed = False

    def watch(self, *, on_overflow: Callable[[], None], on_closed: Callable[[], None]) -> None:
        """What to do when the reader fell too far behind, and when the stream is over."""
        self._on_overflow, self._on_closed = on_overflow, on_closed

    def take_waiting(self) -> Frame:
        """The frames put so far, to be sent with the headers."""
        return self._waiting.take() if self._waiting is not None else Frame()

    def attach(self, connection: Any) -> None:
        """The headers are out: write the frames put since, and from now on each at once."""
        bound(connection)
        self._fd = os.dup(connection.fileno())
        # A watcher of the event loop, not a greenlet: a stream that only waits costs some hundred bytes.
        self._watcher = gevent.get_hub().loop.io(self._fd, _READABLE)
        self._watcher.start(self._look)
        if self.is_closed:
            self._finish()
        elif self._flush():
            self._fall_behind()

    # -- what the hub calls ----------------------------------------------------------

    def put_board(self, frame: Frame) -> None:
        if self._waiting is not None:
            self._waiting.put_board(frame)
        elif not self._write(frame.chunk):
            self._fall_behind().put_board(frame)

    def put_private(self, frame: Frame) -> None:
        if self._waiting is not None:
            self._waiting.put_private(frame)
        elif not self._write(frame.chunk):
            self._fall_behind().put_private(frame)

    def put_heartbeat(self, frame: Frame) -> None:
        if self._waiting is None:
            self._write(frame.chunk)

    def replace_all(self, frames: Frame) -> None:
        self._fall_behind().replace_all(frames)

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        # In a greenlet of its own: callers may be the event loop itself, which must not wait.
        gevent.spawn(self._finish)

    # -- writing -----------------------------------------------------------------------

    def _write(self, data: bytes) -> bool:
        """Write as much as the socket takes at once; false when it took nothing. The rest is drained."""
        if self.is_closed:
            return True
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return True
        if sent < len(data):
            self._rest = data[sent:]
            self._fall_behind()
        return True

    def _fall_behind(self) -> WaitingFrames:
        """The slow path: frames wait while a greenlet drains them."""
        if self._waiting is None:
            self._waiting = WaitingFrames()
        if not self._is_draining and self._fd >= 0:
            self._is_draining = True
            gevent.spawn(self._drain)
        return self._waiting

    def _drain(self) -> None:
        """Write until the browser has caught up; close it when it takes nothing for too long."""
        try:
            while not self.is_closed and self._flush():
                wait_write(self._fd, timeout=STALLED_S)
        except OSError:
            # A time-out is one too.
            self.close()
        finally:
            self._is_draining = False

    def _flush(self) -> bool:
        """Write the rest and the waiting frames; true when some still wait."""
        while not self.is_closed:
            if not self._rest:
                if self._waiting is not None and self._waiting.has_overflowed:
                    self._on_overflow()
                if not self._waiting:
                    self._waiting = None
                    return False
                self._rest = self._waiting.take().chunk
            try:
                sent = os.write(self._fd, self._rest)
            except BlockingIOError:
                return True
            except OSError:
                self.close()
                return False
            self._rest = self._rest[sent:]
        return False

    # -- ending --------------------------------------------------------------------------

    def _look(self) -> None:
        """An EventSource sends nothing after its request: what is readable is the end, or an error."""
        try:
            has_ended = os.read(self._fd, 1) == b""
        except BlockingIOError:
            return
        except OSError:
            has_ended = True
        if has_ended:
            self._watcher.stop()
            self.close()

    def _finish(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                # A frame that was cut in two can't be followed by anything: then the connection just ends.
                if not self._rest:
                    os.write(fd, _LAST_CHUNK)
            except OSError:
                pass
            finally:
                os.close(fd)
        on_closed, self._on_closed = self._on_closed, _nothing
        on_closed()


def bound(connection: Any) -> None:
    """Bound the cost of a browser that doesn't read: kernel buffer and waiting time."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    connection.settimeout(STALLED_S)


def _nothing() -> None:
    return
