"""What waits to be written to one browser: bounded, in order, never more than one board."""

from __future__ import annotations

import threading
import time
from collections import deque

# Private events that may wait for one browser. A player earns at most a few a second;
# who is so far behind gets a reset and a snapshot instead of a queue.
PRIVATE_MAX = 256


class Mailbox:
    """Frames for one stream. A newer board takes the place of one that has not been sent yet.

    The newer board goes to the end, so that event ids reach the browser in order.
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[bytes, bool]] = deque()
        self._is_filled = threading.Event()
        self._lock = threading.Lock()
        self.is_closed = False
        self.has_overflowed = False

    def put_board(self, frame: bytes) -> None:
        with self._lock:
            for place, (_, is_board) in enumerate(self._frames):
                if is_board:
                    del self._frames[place]
                    break
            self._frames.append((frame, True))
        self._is_filled.set()

    def put_private(self, frame: bytes) -> None:
        with self._lock:
            if len(self._frames) >= PRIVATE_MAX:
                self._frames.clear()
                self.has_overflowed = True
            elif not self.has_overflowed:
                self._frames.append((frame, False))
        self._is_filled.set()

    def replace_all(self, frames: bytes) -> None:
        """Drop what waits: the reader starts over from this."""
        with self._lock:
            self._frames.clear()
            self._frames.append((frames, False))
            self.has_overflowed = False
        self._is_filled.set()

    def take(self, timeout_s: float) -> bytes:
        """All that waits, joined; empty after the time-out or when closed."""
        if not self.is_closed:
            self._is_filled.wait(max(0.0, timeout_s))
        with self._lock:
            self._is_filled.clear()
            frames = b"".join(frame for frame, _ in self._frames)
            self._frames.clear()
            return frames

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
