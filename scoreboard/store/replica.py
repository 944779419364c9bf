"""A read replica. It may die, freeze or fall behind at any moment, and callers don't notice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from scoreboard.store.statements import Statement
from scoreboard.store.timeouts import answer_timeout

log = structlog.get_logger(__name__)

Value = TypeVar("Value")

# For connecting and for each answer: a frozen replica costs those under way this much, once.
ANSWER_S = 3.0
# After a failure it is not asked for so long; then one query tests it, and the others go to the primary.
ASK_AGAIN_S = 5.0
# A replica lags by milliseconds, under load by seconds. Later than that it shows a board of the past.
LATE_S = 10.0
# A healthy replica may need so long for the primary's latest writes.
_ARRIVAL_S = 1.0
# A late replica is not asked for so long, unless the next check finds it well: monitors check more often.
_LATE_FOR_S = 60.0
# Hosted servers that keep their log elsewhere, as Aurora does, refuse or lack these functions.
_NOT_TOLD = frozenset(("0A000", "42501", "42883"))


class LogEnd(NamedTuple):
    """Where the log of a primary ends; None on a standby."""

    position: str | None
    timeline: str | None


class Replayed(NamedTuple):
    """How far a standby has come."""

    has_arrived: bool | None
    follows: bool
    lag_s: float | None


_READ_WRITTEN = Statement("read_written", LogEnd)
_READ_REPLAYED = Statement("read_replayed", Replayed)


@dataclass(frozen=True, slots=True)
class Written:
    """How far the primary has written."""

    position: str
    timeline: str


def read_written(connection: sa.Connection) -> Written | None:
    """None when this is no primary. Raises SQLAlchemy's OperationalError when it is down."""
    end = _ask(lambda: _READ_WRITTEN.fetch_one(connection))
    if end is None or end.position is None or end.timeline is None:
        return None
    return Written(end.position, end.timeline)


def _ask(question: Callable[[], Value]) -> Value | None:
    """The answer; None from a server that does not tell of its log."""
    try:
        return question()
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) in _NOT_TOLD:
            return None
        raise


@dataclass(frozen=True, slots=True)
class Answered(Generic[Value]):
    """An answer, which may be None itself."""

    value: Value


class Replica:
    """Answers queries while it is well; otherwise the caller goes to the primary."""

    def __init__(
        self,
        engine: sa.Engine,
        failures: tuple[type[Exception], ...],
        on_lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``failures`` are those of the server; ``on_lost`` is called for each query that goes to the primary."""
        self.engine = engine
        self._failures = failures
        self._on_lost = on_lost
        self._clock = clock
        # When it may be asked again after a failure.
        self._ask_at: float | None = None
        self._late_until: float | None = None

    def ask(self, question: Callable[[sa.Connection], Value]) -> Answered[Value] | None:
        """The replica's answer; None when it fails, has failed just now, or is late."""
        was_away = self._ask_at is not None
        if not self._may_ask():
            self._on_lost()
            return None
        try:
            with answer_timeout(ANSWER_S), self.engine.connect() as connection:
                answer = question(connection)
        except self._failures as error:
            self._on_lost()
            self._leave_alone(error, was_away)
            return None
        self._ask_at = None
        if was_away:
            log.info("replica_back")
        return Answered(answer)

    def check(self, written: Written | None) -> str | None:
        """The problem of a replica that answers: it stands still or is late. None when it is well.

        ``written`` is how far the primary had come before; None when it doesn't say. Raises the replica's failures.
        """
        with answer_timeout(ANSWER_S), self.engine.connect() as connection:
            problem = self._lateness(connection, written)
        self._late_until = self._clock() + _LATE_FOR_S if problem else None
        return problem

    def _lateness(self, connection: sa.Connection, written: Written | None) -> str | None:
        if written is None:
            connection.execute(sa.text("SELECT 1"))
            return None
        give_up_at = time.monotonic() + _ARRIVAL_S
        while True:
            replayed = _ask(
                lambda: _READ_REPLAYED.fetch_one(connection, position=written.position, timeline=written.timeline)
            )
            if replayed is None or replayed.has_arrived:
                return None
            if not replayed.follows:
                return "does not follow the primary: it was promoted, or is another server"
            if time.monotonic() >= give_up_at:
                break
            time.sleep(_ARRIVAL_S / 10)
        lag_s = replayed.lag_s
        if lag_s is not None and lag_s < LATE_S:
            return None
        return "is late" if lag_s is None else f"is {lag_s:.0f} s late"

    def _may_ask(self) -> bool:
        if self._late_until is not None and self._clock() < self._late_until:
            return False
        if self._ask_at is None:
            return True
        now = self._clock()
        if now < self._ask_at:
            return False
        # This caller tests it. The next test is due after as long again, also if this one hangs.
        self._ask_at = now + ASK_AGAIN_S
        return True

    def _leave_alone(self, error: Exception, was_away: bool) -> None:
        # An error of one query, such as a conflict with the replay, says nothing of the next.
        if isinstance(error, DBAPIError) and not error.connection_invalidated and getattr(error.orig, "pgcode", None):
            return
        self._ask_at = self._clock() + ASK_AGAIN_S
        # The connections in the pool lead to the same server, and would each cost a caller the same wait.
        self.engine.dispose()
        if not was_away:
            log.warning("replica_away", error=str(error).partition("\n")[0])
