"""Completions of many players, told of late, counted against fixed windows by their own times, in one round trip."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import redis
from limits.storage import MemoryStorage

from scoreboard.live.connection import load_script

# A batch whose answer was lost is sent again within some seconds. Later ones are known to Postgres, if it took them in.
_MARK_S = 60
_MARKS = "sb:batch:"


class LateWindow(NamedTuple):
    """A window of a limit. The counter of today's calls is ``head + caller + tail``."""

    head: str
    tail: str
    allows: int
    width_s: int
    is_of_flagged: bool


class Told(NamedTuple):
    """A completion. The same ``mark`` again within a minute is let through and not counted. No text has a space."""

    caller: str
    # Unix milliseconds.
    completed_ms: int
    is_flagged: bool
    mark: str


class Breach(NamedTuple):
    """Which of the windows has no room, and the seconds until it begins anew; of several the one that lasts longest."""

    nth: int
    reset_in_s: float


class CompletionCounter:
    """Counts on one Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = load_script(client, "count_completions")

    def count(self, now_ms: int, windows: Sequence[LateWindow], told: Sequence[Told]) -> list[Breach | None]:
        """Count each that all of its windows have room for, in this order, all in one atomic step.

        Raises redis errors when Redis is down; then they may have been counted or not.
        """
        completions = " ".join([f"{each.caller} {each.completed_ms} {each.is_flagged:d} {each.mark}" for each in told])
        arguments: list[Any] = [now_ms, completions, _MARKS, _MARK_S]
        for window in windows:
            arguments += [window.head, window.tail, window.allows, window.width_s * 1_000, int(window.is_of_flagged)]
        numbers = [*map(int, self._script(args=arguments).split())]
        return [
            Breach(nth - 1, left_ms / 1_000) if nth else None
            for nth, left_ms in zip(numbers[::2], numbers[1::2], strict=True)
        ]


class CompletionsInMemory:
    """The same in one process while Redis is down, by whole seconds, minutes, hours and days of the clock."""

    @cached_property
    def _storage(self) -> MemoryStorage:
        # Has a thread of its own, so it is made after fork.
        return MemoryStorage()

    def count(self, windows: Sequence[LateWindow], told: Sequence[Told]) -> list[Breach | None]:
        """Count each that all of its windows have room for, in this order."""
        return [self._count(windows, completion) for completion in told]

    def _count(self, windows: Sequence[LateWindow], told: Told) -> Breach | None:
        if self._storage.get(_MARKS + told.mark):
            return None
        longest: Breach | None = None
        keys: list[tuple[str, int]] = []
        for nth, window in enumerate(windows):
            if window.is_of_flagged and not told.is_flagged:
                continue
            stretch = told.completed_ms // (window.width_s * 1_000)
            key = f"{window.head}{told.caller}{window.tail}/late/{stretch}"
            keys.append((key, window.width_s))
            if self._storage.get(key) >= window.allows:
                reset_in_s = max(0.0, self._storage.get_expiry(key) - time.time())
                if longest is None or reset_in_s > longest.reset_in_s:
                    longest = Breach(nth, reset_in_s)
        if longest is None:
            for key, width_s in (*keys, (_MARKS + told.mark, _MARK_S)):
                self._storage.incr(key, width_s)
        return longest
