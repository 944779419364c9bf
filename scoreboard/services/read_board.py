"""Reading the board: from Redis while it is whole there, from Postgres otherwise."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog

from scoreboard.domain.errors import NotFound
from scoreboard.domain.standings import TOP_SIZE, Board
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.standings import Slice, Standings
from scoreboard.store import board
from scoreboard.store.engine import Database

log = structlog.get_logger(__name__)


class BoardReader:
    """Answers every question about places; ``on_fallback`` is told of each answer from Postgres."""

    def __init__(
        self, database: Database, standings: Standings, on_fallback: Callable[[], None] = lambda: None
    ) -> None:
        self.database = database
        self.standings = standings
        self._on_fallback = on_fallback
        self._was_away = False

    def read(self, *, offset: int, limit: int) -> Board:
        """Rows from ``offset``; raises SQLAlchemy's OperationalError when neither store answers."""
        found = self._from_redis(lambda: self.standings.read(offset=offset, limit=limit))
        if found is not None:
            return found.board
        # Not from a replica: a lagging one would give old rows a new version.
        with self.database.read() as connection:
            return board.read_board(connection, offset=offset, limit=limit)

    def read_top(self) -> Board:
        return self.read(offset=0, limit=TOP_SIZE)

    def read_around(self, user_id: UUID, *, radius: int) -> Board:
        """The rows around a player. Raises NotFound when the player is not on the board."""
        found = self._from_redis(lambda: self.standings.read_around(user_id, radius=radius))
        if found is not None and found.rank is not None:
            return found.board
        # Not in Redis may mean that it has not got there yet: Postgres knows.
        with self.database.read() as connection:
            rank = board.rank_of(connection, user_id)
            if rank is None:
                raise NotFound("This player is not on the board.")
            first = max(0, rank - 1 - radius)
            return board.read_board(connection, offset=first, limit=rank + radius - first)

    def rank_of(self, user_id: UUID) -> tuple[int | None, int]:
        """A player's rank (None when not on the board) and the number of players."""
        found = self._from_redis(lambda: self.standings.read_around(user_id, radius=0))
        if found is not None and found.rank is not None:
            return found.rank, found.board.total_players
        with self.database.read() as connection:
            return board.rank_of(connection, user_id), board.count_players(connection)

    def _from_redis(self, read: Callable[[], Slice | None]) -> Slice | None:
        try:
            if self._was_away:
                # Answers from Postgres carried the time as version: Redis must not go on from an older one.
                self.standings.touch()
                self._was_away = False
            found = read()
        except UNAVAILABLE as error:
            log.warning("board_read_from_postgres", error=str(error))
            found = None
        if found is None:
            self._was_away = True
            self._on_fallback()
        return found
