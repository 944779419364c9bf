"""A read replica that may die, freeze or fall behind at any moment without anybody noticing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from scoreboard.store.patience import patience

log = structlog.get_logger(__name__)

Value = TypeVar("Value")

# For connecting and for each answer: a frozen replica costs those under way this much, once.
ANSWER_S = 3.0
# Then it is left alone for so long; one question tries whether it is back, the others go to the primary.
ASK_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Answered(Generic[Value]):
    """An answer, which may be None itself."""

    value: Value


class Replica:
    """Answers questions as long as it can; otherwise the caller goes to the primary."""

    def __init__(
        self,
        engine: sa.Engine,
        failures: tuple[type[Exception], ...],
        on_lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``failures`` are those of the server; ``on_lost`` is told of each question that goes to the primary."""
        self.engine = engine
        self._failures = failures
        self._on_lost = on_lost
        self._clock = clock
        # From when on it may be asked, after it gave no answer.
        self._ask_at: float | None = None

    def ask(self, question: Callable[[sa.Connection], Value]) -> Answered[Value] | None:
        """The replica's answer; None when it has none, or is not asked because it had none just now."""
        was_away = self._ask_at is not None
        if not self._may_ask():
            self._on_lost()
            return None
        try:
            with patience(ANSWER_S), self.engine.connect() as connection:
                answer = question(connection)
        except self._failures as error:
            self._on_lost()
            self._leave_alone(error, was_away)
            return None
        self._ask_at = None
        if was_away:
            log.info("replica_back")
        return Answered(answer)

    def check(self) -> None:
        """Ask it for a sign of life, whether or not it is left alone; raises what its failures are."""
        with patience(ANSWER_S), self.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    def _may_ask(self) -> bool:
        if self._ask_at is None:
            return True
        now = self._clock()
        if now < self._ask_at:
            return False
        # The next one's turn comes only then, also if this one gets no answer before.
        self._ask_at = now + ASK_AGAIN_S
        return True

    def _leave_alone(self, error: Exception, was_away: bool) -> None:
        # What it refuses to one question, such as a conflict with what it replays, it may answer to the next.
        if isinstance(error, DBAPIError) and not error.connection_invalidated and getattr(error.orig, "pgcode", None):
            return
        self._ask_at = self._clock() + ASK_AGAIN_S
        # The connections in the pool lead to the same server, and would each cost somebody the same wait.
        self.engine.dispose()
        if not was_away:
            log.warning("replica_away", error=str(error).partition("\n")[0])
