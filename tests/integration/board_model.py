"""What a board must hold, as a list in memory: the newest version of each standing, sorted by the contract's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from scoreboard.domain.standings import Board, Standing

Row = tuple[int, UUID, str, int, datetime]


class Moved(NamedTuple):
    """Where a standing went: ranks from 1, None for not on the board."""

    old_rank: int | None
    new_rank: int | None
    is_news: bool


def ordered(standings: Iterable[Standing]) -> list[Standing]:
    """The players on the board: score descending, then who reached it first, then id."""
    shown = [each for each in standings if each.is_visible]
    # Three stable sorts, the least first, so that no key has to be turned round.
    shown.sort(key=lambda each: each.user_id.bytes)
    shown.sort(key=lambda each: each.reached_at)
    shown.sort(key=lambda each: each.score, reverse=True)
    return shown


def rows(standings: Iterable[Standing]) -> list[Row]:
    """The rows of the whole board, ranks included."""
    return [
        (rank, each.user_id, each.username, each.score, each.reached_at)
        for rank, each in enumerate(ordered(standings), start=1)
    ]


def rows_of(board: Board) -> list[Row]:
    """The rows that a store answered, to be compared with ``rows``."""
    return [(each.rank, each.user_id, each.username, each.score, each.updated_at) for each in board.entries]


def around(all_rows: list[Row], user_id: UUID, radius: int) -> list[Row]:
    """The rows from ``radius`` above a player to as many below; none when the player is not on the board."""
    rank = next((row[0] for row in all_rows if row[1] == user_id), None)
    return [] if rank is None else all_rows[max(0, rank - 1 - radius) : rank + radius]


@dataclass
class BoardModel:
    """The board in Redis: the writes since it was emptied, and whether it may be served."""

    is_whole: bool = False
    newest: dict[UUID, Standing] = field(default_factory=dict)

    def rank(self, user_id: UUID) -> int | None:
        order = [each.user_id for each in ordered(self.newest.values())]
        return order.index(user_id) + 1 if user_id in order else None

    def apply(self, standings: Iterable[Standing]) -> list[Moved]:
        """Each in turn: a higher version takes the place of a lower one, anything else changes nothing."""
        return [self._apply(each) for each in standings]

    def _apply(self, standing: Standing) -> Moved:
        known = self.newest.get(standing.user_id)
        if known is None or standing.version > known.version:
            old_rank = self.rank(standing.user_id)
            self.newest[standing.user_id] = standing
            return Moved(old_rank, self.rank(standing.user_id), is_news=True)
        is_same = standing.version == known.version
        return Moved(None, self.rank(standing.user_id) if is_same else None, is_news=False)

    def empty(self) -> None:
        self.newest.clear()
        self.is_whole = False

    def refill(self, standings: Iterable[Standing]) -> None:
        self.empty()
        self.apply(standings)
        self.is_whole = True
