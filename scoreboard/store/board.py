"""Reads the board from Postgres: the truth, served while the board in Redis is not whole."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg2
import sqlalchemy as sa

from scoreboard.domain.standings import Board, BoardEntry, RawStanding, Standing, microseconds
from scoreboard.store.driver_errors import give_up
from scoreboard.store.statements import Statement
from scoreboard.store.tables import users

_VISIBLE = sa.text("status <> 'banned' AND NOT is_hidden")
_ROW = [users.c.id, users.c.username, users.c.score, users.c.score_reached_at]


class Totals(NamedTuple):
    """Totals of all accounts at one moment, and how far Redis may be behind them."""

    # On the board, and standings noted for publishing.
    players: int
    noted: int
    # The sum of the versions of all standings, and what of it has perhaps not been published yet, at most.
    versions: int
    versions_pending: int


class PageRow(NamedTuple):
    """A row of the board, and how new it is."""

    id: UUID
    username: str
    score: int
    score_reached_at: datetime
    now: datetime


_READ_TOTALS = Statement("read_totals", Totals)
_READ_PAGE = Statement("read_page", PageRow)
_READ_BOARD_TIME = Statement("read_board_time", tuple)
_COUNT_RANKS = Statement("count_ranks", tuple)
_STREAM_RAW_STANDINGS = Statement("stream_raw_standings", tuple)


def count_players(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(users).where(_VISIBLE)).scalar_one()


def read_totals(connection: sa.Connection) -> Totals:
    (totals,) = _READ_TOTALS.fetch(connection)
    return totals


def read_board(connection: sa.Connection, *, offset: int, limit: int, total: int | None = None) -> Board:
    """Rows ``offset`` … ``offset + limit``; version and time from the database's clock.

    The players are counted unless ``total`` is given. Skipping is linear in the offset.
    """
    rows = _READ_PAGE.fetch(connection, offset=offset, limit=limit)
    entries = tuple(
        BoardEntry(rank=rank, user_id=row.id, username=row.username, score=row.score, updated_at=row.score_reached_at)
        for rank, row in enumerate(rows, start=offset + 1)
    )
    at: datetime = rows[0].now if rows else _READ_BOARD_TIME.fetch_value(connection)
    return Board(entries, count_players(connection) if total is None else total, microseconds(at))


def rank_of(connection: sa.Connection, user_id: UUID) -> int | None:
    """The rank of a player, None when not on the board.

    Counts those ahead, so it is linear in the rank: two ranges of the index, because it can't look for an "or".
    """
    row = connection.execute(sa.select(*_ROW).where(users.c.id == user_id, _VISIBLE)).one_or_none()
    if row is None:
        return None
    with_more = _count(users.c.score > row.score)
    before = sa.tuple_(users.c.score_reached_at, users.c.id) < sa.tuple_(row.score_reached_at, row.id)
    with_as_many = _count(users.c.score == row.score, before)
    return connection.execute(sa.select(with_more + with_as_many)).scalar_one() + 1


def ranks_of(connection: sa.Connection, standings: Sequence[Standing], *, walk_max: int) -> list[int | None]:
    """The rank that each of these standings would have today; None for hidden ones.

    Counting those ahead takes some 0.1 µs each: at most ``walk_max`` are counted in all, by an estimate of the number
    of accounts, and the standings beyond that get None.
    """
    accounts = connection.scalar(sa.text("SELECT reltuples FROM pg_class WHERE oid = 'users'::regclass"))
    affordable = int(walk_max // max(1.0, accounts or 0.0))
    asked = [standing for standing in standings if standing.is_visible][:affordable]
    if not asked:
        return [None] * len(standings)
    rows = _COUNT_RANKS.fetch(
        connection,
        ids=[standing.user_id for standing in asked],
        scores=[standing.score for standing in asked],
        reached_at=[standing.reached_at for standing in asked],
    )
    ranks = iter([rank for (rank,) in rows])
    return [next(ranks, None) if standing.is_visible else None for standing in standings]


def _count(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(users).where(_VISIBLE, *conditions).scalar_subquery()


def stream_standings(connection: sa.Connection, *, batch: int) -> Iterator[list[Standing]]:
    """Every account's standing, hidden and banned ones too, in batches through a server-side cursor."""
    is_visible: sa.Label[bool] = sa.literal_column("status <> 'banned' AND NOT is_hidden").label("is_visible")
    query = sa.select(*_ROW, users.c.standing_version, is_visible).order_by(users.c.id)
    result = connection.execution_options(yield_per=batch).execute(query)
    for rows in result.partitions():
        yield [
            Standing(
                user_id=row.id,
                username=row.username,
                score=row.score,
                reached_at=row.score_reached_at,
                version=row.standing_version,
                is_visible=row.is_visible,
            )
            for row in rows
        ]


def stream_raw_standings(connection: sa.Connection, *, batch: int) -> Generator[Sequence[RawStanding], None, None]:
    """Every account's standing for a rebuild, from the board's end upwards, in batches through a server-side cursor.

    The rows are the driver's own: SQLAlchemy's would cost more than all the rest.
    """
    sql = _STREAM_RAW_STANDINGS.source.sql
    try:
        with closing(connection.connection.cursor(name="standings")) as cursor:
            cursor.execute(sql)
            while rows := cursor.fetchmany(batch):
                yield rows
    except psycopg2.Error as error:
        raise give_up(connection, sql, error) from error
