"""The order of the board: score descending, then who reached that score first, then id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

TOP_SIZE = 10
DEFAULT_BOARD = "all"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A standing as a rebuild reads it: id (16 bytes), version, points, µs since 1970, whether on the board, name.
RawStanding = tuple[bytes | memoryview, int, int, int, bool, str]


def microseconds(moment: datetime) -> int:
    """Exact microseconds since 1970 (Postgres keeps no finer); below 2**53 until the year 2255."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


@dataclass(frozen=True, slots=True)
class Standing:
    """One player's standing, as Postgres has it.

    ``version`` grows by one with each change of anything here; a copy elsewhere
    is only ever replaced by one of a higher version.
    """

    user_id: UUID
    username: str
    score: int
    reached_at: datetime
    version: int
    is_visible: bool

    @property
    def order(self) -> tuple[int, datetime, UUID]:
        """Sort key of the board, best first."""
        return (-self.score, self.reached_at, self.user_id)


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One row of a board."""

    rank: int
    user_id: UUID
    username: str
    score: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Board:
    """A slice of a board, whole at one moment; ``version`` (µs since 1970) only grows."""

    entries: tuple[BoardEntry, ...]
    total_players: int
    version: int

    @property
    def last_updated(self) -> datetime:
        return from_microseconds(self.version)


def percentile(rank: int, players: int) -> float:
    """Players below ÷ (players − 1) × 100; 100 when alone."""
    if players <= 1:
        return 100.0
    return (players - rank) / (players - 1) * 100
