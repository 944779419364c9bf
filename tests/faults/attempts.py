"""The clients' attempts and the acknowledgements they got, in memory."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
# The service has it and will settle it: in PostgreSQL, whatever dies next.
ACKNOWLEDGED = frozenset({200, 202})
# Try again with the same body: the service says that it could not, or may not have.
NOT_NOW = frozenset({429, 503})
# An hour at sixty a second, some 100 MB; a scenario that needs more says too little for its time.
_ATTEMPTS_MAX = 200_000


@dataclass
class Attempt:
    """One completion that a client sent, as often as it took."""

    action_id: str
    user_id: str
    # The sender's access token; empty if it must not be used to ask.
    token: str = ""
    sent: int = 0
    unanswered: int = 0
    # When it was first acknowledged (monotonic), and the data of the latest answer with an outcome.
    acknowledged_at: float | None = None
    outcome: Json | None = None
    # The status of the answer that refused it for good.
    refused: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether its sender still doesn't know."""
        return self.acknowledged_at is None and self.refused is None


@dataclass(frozen=True)
class Surprise:
    """An answer that no client should get, whatever is broken."""

    what: str
    status: int
    body: str


@dataclass
class Log:
    """The attempts of one scenario; safe from any thread."""

    attempts: dict[str, Attempt] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    # How often each answer came; 0 is none at all.
    statuses: Counter[int] = field(default_factory=Counter)
    surprises: list[Surprise] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    acknowledgements: int = 0

    def add_users(self, user_ids: Iterable[str]) -> None:
        """These players' ledgers hold what this log knows of, and nothing else."""
        with self.changed:
            self.users.update(user_ids)

    def attempt(self, action_id: str, user_id: str, token: str = "") -> Attempt:
        """Note a completion before it is sent for the first time."""
        with self.changed:
            assert len(self.attempts) < _ATTEMPTS_MAX, "more attempts than a scenario may remember"
            self.users.add(user_id)
            return self.attempts.setdefault(action_id, Attempt(action_id, user_id, token))

    def sent(self, attempt: Attempt) -> None:
        with self.changed:
            attempt.sent += 1

    def unanswered(self, attempt: Attempt | None = None) -> None:
        """The connection broke, or no answer came in time: it may have been done or not."""
        with self.changed:
            self.statuses[0] += 1
            if attempt is not None:
                attempt.unanswered += 1

    def answered(self, attempt: Attempt, status: int, body: Json) -> None:
        """Note the answer to a completion."""
        with self.changed:
            self.statuses[status] += 1
            if status in ACKNOWLEDGED:
                if attempt.acknowledged_at is None:
                    attempt.acknowledged_at = time.monotonic()
                    self.acknowledgements += 1
                if status == 200:
                    attempt.outcome = body["data"]
            elif status not in NOT_NOW:
                attempt.refused = status
                self._be_surprised("complete", status, body)
            self.changed.notify_all()

    def requested(self, status: int, body: Json) -> None:
        """Note the answer to a request for an action."""
        with self.changed:
            self.statuses[status] += 1
            if status != 200 and status not in NOT_NOW:
                self._be_surprised("request", status, body)

    def _be_surprised(self, what: str, status: int, body: Json) -> None:
        self.surprises.append(Surprise(what, status, str(body)[:300]))

    @property
    def acknowledged(self) -> list[Attempt]:
        with self.changed:
            return [each for each in self.attempts.values() if each.acknowledged_at is not None]

    @property
    def unknown(self) -> list[Attempt]:
        """Sent, and still without an answer that says what became of it."""
        with self.changed:
            return [each for each in self.attempts.values() if each.is_open and each.sent]

    def wait_for_answers(self, count: int, timeout_s: float = 60) -> None:
        """Wait until so many more completions have been acknowledged."""
        with self.changed:
            wanted = self.acknowledgements + count
            done = self.changed.wait_for(lambda: self.acknowledgements >= wanted, timeout_s)
        assert done, f"{count} acknowledgements were not to be had within {timeout_s:.0f} s; {self.describe()}"

    def describe(self) -> str:
        with self.changed:
            answers = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(self.statuses.items()))
        return f"{self.acknowledgements} acknowledged; answers by status: {answers}"
