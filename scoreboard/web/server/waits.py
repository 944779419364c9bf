"""The waits of connections for their next request: one timer for all, as one for each costs more than its wait."""

from __future__ import annotations

import time
from typing import Any

import gevent

# Between two looks at all waits: one lasts longer than it may by so much at most. Ten thousand take a millisecond.
_LOOK_S = 0.5


class _Over(BaseException):
    """Ends one wait; it is thrown into its greenlet, and the wait keeps it."""


class Wait:
    """A with-block that ends silently when it lasts too long, or when ``Waits.end_all`` is called."""

    __slots__ = ("_deadline", "_greenlet", "_over", "_waits")

    def __init__(self, waits: Waits, deadline: float) -> None:
        self._waits = waits
        self._deadline = deadline
        self._greenlet: Any = None
        self._over: _Over | None = None

    def __enter__(self) -> None:
        self._greenlet = gevent.getcurrent()
        self._waits.add(self)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        self._waits.discard(self)
        return error is not None and error is self._over

    def is_late(self, now: float) -> bool:
        """``now`` by time.monotonic()."""
        return now >= self._deadline

    def end(self) -> None:
        """To be called by the event loop: what waits must not go on between the decision and its end."""
        self._over = _Over()
        self._greenlet.throw(self._over)


class Waits:
    """Those of one process; its timer starts with the first of them, behind the fork."""

    def __init__(self) -> None:
        self._waiting: set[Wait] = set()
        self._timer: Any = None

    def at_most(self, seconds: float) -> Wait:
        """A wait that ends after so many seconds, or half a second later."""
        return Wait(self, time.monotonic() + seconds)

    def add(self, wait: Wait) -> None:
        self._waiting.add(wait)
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(_LOOK_S, repeat=_LOOK_S, ref=False)
            self._timer.start(self._end_late_ones)

    def discard(self, wait: Wait) -> None:
        self._waiting.discard(wait)

    def end_all(self) -> None:
        """In the next turn of the event loop."""
        gevent.get_hub().loop.run_callback(self._end_those_before, float("inf"))

    def _end_late_ones(self) -> None:
        self._end_those_before(time.monotonic())

    def _end_those_before(self, now: float) -> None:
        for wait in [wait for wait in self._waiting if wait.is_late(now)]:
            # Ending one may have ended another.
            if wait in self._waiting:
                wait.end()
