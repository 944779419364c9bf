"""The board a hub has read, the one its streams were sent last, and when they are sent another."""

from __future__ import annotations

import time
from collections.abc import Callable

from scoreboard.domain.standings import Board

# A changed number of players alone is told this often at most: with ten thousand streams a frame costs some 60 ms of
# work on each core, so this is about one hundredth of it. A frame for the top has the present number anyway.
_COUNT_INTERVAL_S = 5.0
# A new stream's first board is no older; so a crowd that comes at one moment costs one read.
_FRESH_S = 1.0


class BoardNews:
    """The first change goes out at once, further ones at most once per interval, the last one always.

    A new top waits for ``interval_s``, a new number of players alone for some seconds. The hub's lock
    guards ``note`` and ``take``.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        #: The newest board that was read.
        self.board: Board | None = None
        self._sent: Board | None = None
        self._read_at = float("-inf")
        #: Whether the top may have changed since it was read.
        self.is_dirty = False
        self._due_at = 0.0
        self._has_new_count = False
        self._count_due_at = 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether the board is new enough to begin a stream with."""
        return self._clock() < self._read_at + _FRESH_S

    @property
    def is_due(self) -> bool:
        """Whether the board is to be read now, as there may be something to send."""
        now = self._clock()
        return now >= self._due_at and (self.is_dirty or (self._has_new_count and now >= self._count_due_at))

    def next_at(self, otherwise: float) -> float:
        """When it will be due, by the clock; ``otherwise`` if that is sooner."""
        if self.is_dirty:
            otherwise = min(otherwise, self._due_at)
        if self._has_new_count:
            otherwise = min(otherwise, max(self._due_at, self._count_due_at))
        return otherwise

    def wait(self, seconds: float) -> None:
        """Be due no sooner."""
        self._due_at = self._clock() + seconds

    def note(self, board: Board) -> None:
        """A board has been read; versions never go backwards."""
        self._read_at = self._clock()
        if self.board is None or board.version >= self.board.version:
            self.board = board
        self._sent = self._sent or self.board

    def take(self) -> Board | None:
        """The board, if all streams are to be sent it now."""
        board, sent = self.board, self._sent
        self._has_new_count = False
        if board is None or sent is None:
            return None
        if sent.entries == board.entries:
            if sent.total_players == board.total_players:
                return None
            if self._clock() < self._count_due_at:
                self._has_new_count = True
                return None
        self._sent = board
        now = self._clock()
        # Only a board that was sent starts the interval: an unchanged top delays no board.
        self._due_at = now + self._interval_s
        self._count_due_at = now + max(self._interval_s, _COUNT_INTERVAL_S)
        return board
