"""Fills the board in Redis from Postgres, one rebuilder at a time, while Postgres serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from uuid import uuid4

import sqlalchemy as sa
import structlog

from scoreboard.domain.standings import RawStanding
from scoreboard.live.standings import FILL_BATCH, RebuildOvertakenError, Standings
from scoreboard.live.stream.events import EventLog, board_changed
from scoreboard.services.boards.publish import publish_quietly
from scoreboard.store import board
from scoreboard.store.engine import Database
from scoreboard.store.timeouts import answer_timeout
from scoreboard.store.transactions import lift_statement_timeout, try_lock

log = structlog.get_logger(__name__)

# Any number, the same everywhere: names the lock among Postgres' advisory locks.
_LOCK = 0x5C0_2EB0
# Rebuilds take seconds; asking so often costs nothing beside them.
_LOOK_AGAIN_S = 0.2
# For the first of millions of rows: Postgres sorts them all before it sends one.
_REBUILD_ANSWER_S = 300.0


class RebuildRunningError(Exception):
    """Another rebuild is under way."""


def rebuild_board(
    database: Database,
    standings: Standings,
    events: EventLog,
    on_progress: Callable[[int], object] = lambda _: None,
    *,
    batch: int = FILL_BATCH,
    wait_s: float = 0.0,
) -> int:
    """Empty the board, fill it from Postgres and declare it whole; returns the number of accounts written.

    Live changes go on meanwhile: every write carries its version. Another rebuild is
    waited for as long as ``wait_s``. Raises RebuildRunningError, RebuildOvertakenError
    (Redis was emptied meanwhile: try again), and redis and SQLAlchemy errors.
    """
    started_at = time.monotonic()
    with _only_one(database, wait_s) as connection, answer_timeout(_REBUILD_ANSWER_S):
        token = uuid4().hex
        # Emptied before Postgres is read: a change between the two would be in neither.
        standings.begin_rebuild(token)
        # Closed here also when a fill fails: its cursor must not outlive the transaction.
        with closing(board.stream_raw_standings(connection, batch=batch)) as batches:
            written = _fill(batches, standings, token, on_progress)
        standings.finish_rebuild(token)
    publish_quietly(events, [board_changed(None)])
    log.info("board_rebuilt", accounts=written, seconds=round(time.monotonic() - started_at, 3))
    return written


def _fill(
    batches: Iterator[Sequence[RawStanding]], standings: Standings, token: str, on_progress: Callable[[int], object]
) -> int:
    """Fill the board: Redis takes one batch in while Postgres brings the next, so two are in memory at most."""
    written = 0
    with ThreadPoolExecutor(1, "fill") as filling:
        pending: Future[None] | None = None
        for rows in batches:
            if pending is not None:
                pending.result()
            pending = filling.submit(standings.fill, rows, token)
            written += len(rows)
            on_progress(len(rows))
        if pending is not None:
            pending.result()
    return written


def ensure_board(database: Database, standings: Standings, events: EventLog, *, compare: bool = False) -> bool:
    """Rebuild if the board is not whole or, with ``compare``, differs from Postgres; true when it did."""
    if standings.is_whole() and not (compare and _is_off(database, standings)):
        return False
    try:
        rebuild_board(database, standings, events)
    except (RebuildRunningError, RebuildOvertakenError) as error:
        log.info("board_rebuild_left_to_others", error=type(error).__name__)
        return False
    return True


def _is_off(database: Database, standings: Standings) -> bool:
    """Whether Redis shows other players than Postgres, or older or newer standings of them.

    Redis is read before and after Postgres, because changes go on meanwhile. Postgres has all that Redis had before;
    Redis then has all that Postgres had, except the standings noted for publishing.
    """
    players, versions = standings.count_players(), standings.sum_versions()
    with database.read() as connection:
        totals = board.read_totals(connection)
    players_after, versions_after = standings.count_players(), standings.sum_versions()
    if totals.players - totals.noted > players_after or players > totals.players + totals.noted:
        log.warning("board_count_differs", redis=players_after, postgres=totals.players, noted=totals.noted)
        return True
    if totals.versions - totals.versions_pending > versions_after or versions > totals.versions:
        pending = totals.versions_pending
        log.warning("board_versions_differ", redis=versions_after, postgres=totals.versions, pending=pending)
        return True
    return False


@contextmanager
def _only_one(database: Database, wait_s: float) -> Iterator[sa.Connection]:
    """Hold the rebuilder's lock; it ends with the transaction, so a killed rebuilder does not block the next one."""
    with database.read() as connection:
        give_up_at = time.monotonic() + wait_s
        while not try_lock(connection, _LOCK):
            connection.rollback()
            if time.monotonic() >= give_up_at:
                raise RebuildRunningError
            time.sleep(_LOOK_AGAIN_S)
        # A rebuild of millions of rows takes longer than a request may.
        lift_statement_timeout(connection)
        yield connection
