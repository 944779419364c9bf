"""A player's score, rank and history."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from scoreboard.domain.errors import NotFound
from scoreboard.domain.standings import percentile
from scoreboard.services.boards.read import BoardReader
from scoreboard.store import ledger, users
from scoreboard.store.engine import Database
from scoreboard.store.ledger import LedgerRow
from scoreboard.store.users import User


@dataclass(frozen=True, slots=True)
class PlayerScore:
    """A player's score and rank; rank and percentile are None while not on the board."""

    user: User
    rank: int | None
    percentile: float | None


def read_score(database: Database, board: BoardReader, user_id: UUID, *, is_own: bool) -> PlayerScore:
    """Raises NotFound; players who are not on the board are shown to themselves only."""
    with database.read() as connection:
        user = users.get_user(connection, user_id)
    if user is None or not (is_own or user.is_on_board):
        raise NotFound("There is no such player.")
    if not user.is_on_board:
        return PlayerScore(user, None, None)
    rank, players = board.rank_of(user_id)
    return PlayerScore(user, rank, percentile(rank, players) if rank else None)


def read_history(database: Database, user_id: UUID, *, before_seq: int | None, limit: int) -> list[LedgerRow]:
    """A page of a player's score changes, newest first."""
    return database.read_stale(
        lambda connection: ledger.list_history(connection, user_id, before_seq=before_seq, limit=limit)
    )
