"""What became of the accepted actions, as the database has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from benchmarks.report import Latency

_POLL_S = 0.2

_BACKLOG = sa.text("SELECT count(*) FROM actions WHERE state = 'accepted'")
# One that a completion brought along may have been issued in the run before.
_STATES = sa.text("SELECT state, count(*) FROM actions WHERE coalesce(accepted_at, issued_at) >= :since GROUP BY state")
_LAST = sa.text("SELECT max(settled_at) FROM actions WHERE accepted_at >= :since")
_DELAYS = sa.text(
    """
    SELECT extract(epoch FROM settled_at - accepted_at) * 1000
    FROM actions WHERE accepted_at BETWEEN :since AND :until AND settled_at IS NOT NULL
    """
)


class Outcomes:
    """Looks at a variant's actions over a connection of its own."""

    def __init__(self, database_url: str) -> None:
        url = database_url.replace("postgresql://", "postgresql+psycopg2://")
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)

    def close(self) -> None:
        self._engine.dispose()

    def backlog(self) -> int:
        """Accepted and not settled."""
        with self._engine.connect() as connection:
            return int(connection.execute(_BACKLOG).scalar_one())

    def states(self, since: float) -> dict[str, int]:
        """How many actions accepted since then are in which state, and how many issued since then are still open."""
        with self._engine.connect() as connection:
            rows = connection.execute(_STATES, {"since": _moment(since)})
            return {row[0]: row[1] for row in rows}

    def last_settled_at(self, since: float) -> float | None:
        with self._engine.connect() as connection:
            last: datetime | None = connection.execute(_LAST, {"since": _moment(since)}).scalar_one()
        return last.timestamp() if last else None

    def delay(self, since: float, until: float) -> Latency | None:
        """From acceptance to settlement, of all actions accepted between these moments."""
        with self._engine.connect() as connection:
            rows = connection.execute(_DELAYS, {"since": _moment(since), "until": _moment(until)})
            return Latency.of(float(each) for each in rows.scalars())

    def wait_until_settled(self, wait_s: float, on_progress: Callable[[int], object]) -> bool:
        """Whether nothing is left to settle within this time."""
        deadline = time.monotonic() + wait_s
        while (left := self.backlog()) and time.monotonic() < deadline:
            on_progress(left)
            time.sleep(_POLL_S)
        return not left


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
