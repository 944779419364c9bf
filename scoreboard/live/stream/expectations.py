"""Waiting for outcomes: a request that prefers to wait is told as soon as the hub hears of its actions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from scoreboard.wire.answers import SettledAction


@dataclass(eq=False)
class Expectation:
    """A caller's wait for the outcome of an action."""

    _arrived: threading.Event = field(default_factory=threading.Event)
    outcome: SettledAction | None = None

    def fulfil(self, _action_id: UUID, outcome: SettledAction) -> None:
        self.outcome = outcome
        self._arrived.set()

    def wait(self, timeout_s: float) -> SettledAction | None:
        self._arrived.wait(timeout_s)
        return self.outcome


class Expectations:
    """A caller's one wait for the outcomes of several actions."""

    def __init__(self) -> None:
        #: Still to come.
        self.missing: set[UUID] = set()
        self.outcomes: dict[UUID, SettledAction] = {}
        self._changed = threading.Event()

    def fulfil(self, action_id: UUID, outcome: SettledAction) -> None:
        self.outcomes[action_id] = outcome
        self.missing.discard(action_id)
        if not self.missing:
            self._changed.set()

    def narrow(self, action_ids: Collection[UUID]) -> None:
        """Wait for these only."""
        self.missing.intersection_update(action_ids)

    def wait(self, timeout_s: float) -> bool:
        """Whether all outcomes have come, by the end of this time at most."""
        return not self.missing or self._changed.wait(timeout_s)


class ExpectedOutcomes:
    """The waits of one process by action. There are as many as requests in progress, so admission bounds them."""

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        """``lock`` is held by the caller of ``fulfil``."""
        self._lock = lock
        self._waiting: dict[UUID, set[Expectation | Expectations]] = {}

    @contextmanager
    def one(self, action_id: UUID) -> Iterator[Expectation]:
        """Be told of an action's outcome; open it before the action is accepted."""
        expectation = Expectation()
        self._add([action_id], expectation)
        try:
            yield expectation
        finally:
            self._remove([action_id], expectation)

    @contextmanager
    def several(self) -> Iterator[tuple[Expectations, Callable[[Collection[UUID]], None]]]:
        """Be told of the outcomes of several actions. Actions are added by the call that comes with it.

        They are added before they are accepted. An outcome that came before is to be looked up after adding.
        """
        expectations, expected = Expectations(), set[UUID]()

        def add(action_ids: Collection[UUID]) -> None:
            fresh = set(action_ids) - expected
            expected.update(fresh)
            expectations.missing.update(fresh)
            self._add(fresh, expectations)

        try:
            yield expectations, add
        finally:
            self._remove(expected, expectations)

    def fulfil(self, action_id: UUID, outcome: bytes) -> None:
        """Tell an outcome, as JSON, to all that wait for it."""
        if action_id not in self._waiting:
            return
        settled: SettledAction = orjson.loads(outcome)
        for expectation in self._waiting[action_id]:
            expectation.fulfil(action_id, settled)

    def _add(self, action_ids: Collection[UUID], expectation: Expectation | Expectations) -> None:
        with self._lock:
            for action_id in action_ids:
                self._waiting.setdefault(action_id, set()).add(expectation)

    def _remove(self, action_ids: Collection[UUID], expectation: Expectation | Expectations) -> None:
        with self._lock:
            for action_id in action_ids:
                waiting = self._waiting[action_id]
                waiting.discard(expectation)
                if not waiting:
                    del self._waiting[action_id]
