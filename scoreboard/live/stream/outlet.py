"""The frames that wait to be written to one browser: bounded, in order, never more than one board."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from scoreboard.live.stream.frames import Frame

# Private events that may wait for one browser. A player earns at most a few a second;
# a browser so far behind gets a reset and a snapshot instead of a queue.
PRIVATE_MAX = 256


class Outlet(Protocol):
    """Where the hub puts frames for one browser. Putting never waits and never raises."""

    is_closed: bool

    def put_board(self, frame: Frame) -> None:
        """A board; replaces one that has not been sent yet."""

    def put_private(self, frame: Frame) -> None:
        """An event that must arrive, in order; too many that wait make the reader start over."""

    def put_heartbeat(self, frame: Frame) -> None:
        """Dropped when anything waits: the waiting frame shows that the connection is alive."""

    def replace_all(self, frames: Frame) -> None:
        """Drop the waiting frames: the reader starts over from this."""

    def close(self) -> None:
        """End the stream."""


class WaitingFrames:
    """Frames that wait. A newer board goes to the end, so that event ids reach the browser in order."""

    def __init__(self) -> None:
        self._frames: deque[tuple[bytes, bool]] = deque()
        self.has_overflowed = False

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put_board(self, frame: bytes) -> None:
        for place, (_, is_board) in enumerate(self._frames):
            if is_board:
                del self._frames[place]
                break
        self._frames.append((frame, True))

    def put_private(self, frame: bytes) -> None:
        if len(self._frames) >= PRIVATE_MAX:
            self._frames.clear()
            self.has_overflowed = True
        elif not self.has_overflowed:
            self._frames.append((frame, False))

    def replace_all(self, frames: bytes) -> None:
        self._frames.clear()
        self._frames.append((frames, False))
        self.has_overflowed = False

    def take(self) -> Frame:
        frames = Frame(b"".join(frame for frame, _ in self._frames))
        self._frames.clear()
        return frames


class QueueOutlet:
    """The outlet of a stream that is written by a generator, on any server: frames wait until it takes them."""

    def __init__(self) -> None:
        self._waiting = WaitingFrames()
        self._is_filled = threading.Event()
        self._lock = threading.Lock()
        self.is_closed = False

    @property
    def has_overflowed(self) -> bool:
        return self._waiting.has_overflowed

    def put_board(self, frame: bytes) -> None:
        with self._lock:
            self._waiting.put_board(frame)
        self._is_filled.set()

    def put_private(self, frame: bytes) -> None:
        with self._lock:
            self._waiting.put_private(frame)
        self._is_filled.set()

    def put_heartbeat(self, frame: bytes) -> None:
        with self._lock:
            if not self._waiting:
                self._waiting.put_private(frame)
        self._is_filled.set()

    def replace_all(self, frames: bytes) -> None:
        with self._lock:
            self._waiting.replace_all(frames)
        self._is_filled.set()

    def take(self, timeout_s: float | None) -> Frame:
        """All that waits, joined; empty after the time-out (None: no end) or when closed."""
        if not self.is_closed:
            self._is_filled.wait(None if timeout_s is None else max(0.0, timeout_s))
        with self._lock:
            self._is_filled.clear()
            return self._waiting.take()

    def close(self) -> None:
        self.is_closed = True
        self._is_filled.set()


class Deadline:
    """Counts down to a moment of the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        self._due_at = time.monotonic() + self._seconds

    @property
    def left_s(self) -> float:
        return self._due_at - time.monotonic()
