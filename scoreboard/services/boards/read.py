"""Reads the board: from Redis while it is whole there, from Postgres otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from scoreboard.domain.errors import NotFound
from scoreboard.domain.standings import TOP_SIZE, Board
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.standings import Slice, Standings
from scoreboard.store import board
from scoreboard.store.engine import Database

log = structlog.get_logger(__name__)

# Postgres finds a rank, or rows far down, by walking its index: 0.1 µs a player, 0.1 s at the end of a million. Two
# at a time in a process keep it from overload while Redis is away; a caller that waited five seconds gets a 503.
_WALKS_AT_ONCE = 2
_WAIT_S = 5.0
# Short reads leave most of a process' connections to writers, and don't open them all at once.
_READS_AT_ONCE = 3
# Rows from here on count as far down.
_FAR_DOWN = 1_000
# Counting all players costs as much. It may take a twentieth of the time; a count is due after so long in any case,
# and no answer after as long again.
_COUNT_SHARE = 1 / 20
_COUNT_AGE_MAX_S = 10.0
# After Redis gave no answer one caller at a time asks it again, this often; each waits for some seconds if it hangs,
# while the others go to Postgres at once.
_ASK_AGAIN_S = 1.0
# A Redis that refuses writes still answers, with a board that stands still. So long may it be taken for the present
# one: a small write, one per process in that time, finds it out.
_PROBE_S = 2.0
# Fewer are counted in some milliseconds.
_MANY_PLAYERS = 50_000


Answer = TypeVar("Answer")


def _bare(connection: sa.Connection) -> sa.Connection:
    # Nothing to roll back: one round trip instead of three. A replica's connections are all so.
    is_bare = getattr(connection.connection.dbapi_connection, "autocommit", False)
    return connection if is_bare else connection.execution_options(isolation_level="AUTOCOMMIT")


class PlayerCount:
    """The number of players by Postgres: exact where counting is cheap, some seconds old on a board of millions."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counting = threading.Lock()
        self._players = 0
        # When to count again, and when the old count is too old to be used.
        self._due_at = self._stale_at = float("-inf")

    def read(self, count: Callable[[], int]) -> int:
        """The last count while that is young enough, else a new one, made by one caller for all.

        The others go on with the last count meanwhile, or wait for the new one if that is too old.
        """
        now = self._clock()
        if now >= self._due_at and self._counting.acquire(blocking=now >= self._stale_at):
            try:
                # A caller that waited finds it done.
                if self._clock() >= self._due_at:
                    self._count(count)
            finally:
                self._counting.release()
        return self._players

    def note(self, players: int) -> None:
        """Take the number from Redis: a big board needs no count right after Redis is gone."""
        now = self._clock()
        self._players = players
        self._due_at = now + _COUNT_AGE_MAX_S if players >= _MANY_PLAYERS else now
        self._stale_at = now + 2 * _COUNT_AGE_MAX_S

    def _count(self, count: Callable[[], int]) -> None:
        started_at = self._clock()
        self._players = count()
        done_at = self._clock()
        self._due_at = done_at + min((done_at - started_at) / _COUNT_SHARE, _COUNT_AGE_MAX_S)
        self._stale_at = self._due_at + _COUNT_AGE_MAX_S


class BoardReader:
    """Reads rows and ranks of the board; ``on_fallback`` is called for each read from Postgres."""

    def __init__(
        self,
        database: Database,
        standings: Standings,
        on_fallback: Callable[[], None] = lambda: None,
        *,
        wait_s: float = _WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.standings = standings
        self._on_fallback = on_fallback
        self._clock = clock
        self._was_away = False
        # When Redis may be asked again after a failure.
        self._ask_at: float | None = None
        self._probe_at = float("-inf")
        self._walks = threading.BoundedSemaphore(_WALKS_AT_ONCE)
        self._reads = threading.BoundedSemaphore(_READS_AT_ONCE)
        self._wait_s = wait_s
        self._players = PlayerCount()

    def read(self, *, offset: int, limit: int) -> Board:
        """Rows from ``offset``; raises SQLAlchemy's OperationalError when neither store answers."""
        found = self._from_redis(lambda: self.standings.read(offset=offset, limit=limit))
        if found is not None:
            return found.board
        with self._slot(is_walk=offset >= _FAR_DOWN):
            return self.database.read_stale(lambda connection: self._read(_bare(connection), offset, limit))

    def read_top(self) -> Board:
        return self.read(offset=0, limit=TOP_SIZE)

    def read_around(self, user_id: UUID, *, radius: int) -> Board:
        """The rows around a player. Raises NotFound when the player is not on the board."""
        found = self._from_redis(lambda: self.standings.read_around(user_id, radius=radius))
        if found is not None and found.rank is not None:
            return found.board
        # A player missing in Redis may only be unpublished so far: Postgres decides.
        with self._slot():
            around = self._ask_for(lambda connection: self._read_around(connection, user_id, radius))
        if around is None:
            raise NotFound("This player is not on the board.")
        return around

    def rank_of(self, user_id: UUID) -> tuple[int | None, int]:
        """A player's rank (None when not on the board) and the number of players."""
        found = self._from_redis(lambda: self.standings.read_around(user_id, radius=0))
        if found is not None and found.rank is not None:
            return found.rank, found.board.total_players
        with self._slot():
            rank = self._ask_for(lambda connection: board.rank_of(_bare(connection), user_id))
            return rank, max(rank or 0, self.database.read_stale(lambda connection: self._count(_bare(connection))))

    def _read_around(self, connection: sa.Connection, user_id: UUID, radius: int) -> Board | None:
        bare = _bare(connection)
        rank = board.rank_of(bare, user_id)
        if rank is None:
            return None
        first = max(0, rank - 1 - radius)
        return self._read(bare, first, rank + radius - first)

    def _ask_for(self, question: Callable[[sa.Connection], Answer | None]) -> Answer | None:
        """The answer about one player; from the primary if a lagging replica lacks the player."""
        answer = self.database.read_stale(question)
        if answer is None and self.database.replica is not None:
            with self.database.read() as connection:
                return question(connection)
        return answer

    @contextmanager
    def _slot(self, *, is_walk: bool = True) -> Iterator[None]:
        """Bound the concurrent reads from Postgres. Raises SQLAlchemy's TimeoutError when no slot gets free."""
        slots = self._walks if is_walk else self._reads
        if not slots.acquire(timeout=self._wait_s):
            raise PoolTimeoutError("too many concurrent board reads from PostgreSQL")
        try:
            yield
        finally:
            slots.release()

    def _read(self, connection: sa.Connection, offset: int, limit: int) -> Board:
        found = board.read_board(connection, offset=offset, limit=limit, total=self._count(connection))
        # The count may be older than the rows.
        least = max((entry.rank for entry in found.entries), default=0)
        return found if found.total_players >= least else replace(found, total_players=least)

    def _count(self, connection: sa.Connection) -> int:
        return self._players.read(lambda: board.count_players(connection))

    def _from_redis(self, read: Callable[[], Slice | None]) -> Slice | None:
        found = self._ask_redis(read) if self._may_ask_redis() else None
        if found is None:
            self._was_away = True
            self._on_fallback()
        return found

    def _may_ask_redis(self) -> bool:
        if self._ask_at is None:
            return True
        now = self._clock()
        if now < self._ask_at:
            return False
        # This caller tests Redis. The next test is due after as long again, also if this one hangs.
        self._ask_at = now + _ASK_AGAIN_S
        return True

    def _ask_redis(self, read: Callable[[], Slice | None]) -> Slice | None:
        try:
            self._probe_if_due()
            found = read()
            if found is not None and self._was_away:
                # Answers from Postgres carried the time as version: Redis must not go on from an older one.
                self.standings.touch()
                found = read()
                self._was_away = False
            if found is not None:
                self._players.note(found.board.total_players)
        except UNAVAILABLE as error:
            log.warning("board_read_from_postgres", error=str(error))
            self._ask_at = self._clock() + _ASK_AGAIN_S
            return None
        self._ask_at = None
        return found

    def _probe_if_due(self) -> None:
        now = self._clock()
        if now >= self._probe_at:
            self._probe_at = now + _PROBE_S
            self.standings.probe()
