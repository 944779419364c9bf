"""The board read from Postgres: the truth, and what is served while Redis is not whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.standings import Board, Entry, Standing, microseconds
from scoreboard.store.tables import standing_outbox, users

_VISIBLE = sa.text("status <> 'banned' AND NOT is_hidden")
_ROW = [users.c.id, users.c.username, users.c.score, users.c.score_reached_at]
_ORDER = [users.c.score.desc(), users.c.score_reached_at, users.c.id]


def count_players(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(users).where(_VISIBLE)).scalar_one()


def count_players_and_notes(connection: sa.Connection) -> tuple[int, int]:
    """Players on the board and standings noted for publishing, of one moment."""
    players = sa.select(sa.func.count()).select_from(users).where(_VISIBLE).scalar_subquery()
    noted = sa.select(sa.func.count()).select_from(standing_outbox).scalar_subquery()
    row = connection.execute(sa.select(players.label("players"), noted.label("noted"))).one()
    return row.players, row.noted


def read_board(connection: sa.Connection, *, offset: int, limit: int) -> Board:
    """Rows ``offset`` … ``offset + limit`` and the number of players; version and time from the database's clock."""
    rows = connection.execute(sa.select(*_ROW).where(_VISIBLE).order_by(*_ORDER).offset(offset).limit(limit))
    entries = tuple(
        Entry(offset + place, row.id, row.username, row.score, row.score_reached_at)
        for place, row in enumerate(rows, start=1)
    )
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return Board(entries, count_players(connection), microseconds(now))


def rank_of(connection: sa.Connection, user_id: UUID) -> int | None:
    """Place of a player from 1, None when not on the board. Counts those ahead: linear in the rank."""
    row = connection.execute(sa.select(*_ROW).where(users.c.id == user_id, _VISIBLE)).one_or_none()
    if row is None:
        return None
    ahead = sa.or_(
        users.c.score > row.score,
        sa.and_(
            users.c.score == row.score,
            sa.tuple_(users.c.score_reached_at, users.c.id) < sa.tuple_(row.score_reached_at, row.id),
        ),
    )
    count = connection.execute(sa.select(sa.func.count()).select_from(users).where(_VISIBLE, ahead)).scalar_one()
    return count + 1


def stream_standings(connection: sa.Connection, *, batch: int) -> Iterator[list[Standing]]:
    """Every account's standing, hidden and banned ones too, in batches through a server-side cursor."""
    is_visible: sa.Label[bool] = sa.literal_column("status <> 'banned' AND NOT is_hidden").label("is_visible")
    query = sa.select(*_ROW, users.c.standing_version, is_visible).order_by(users.c.id)
    result = connection.execution_options(yield_per=batch).execute(query)
    for rows in result.partitions():
        yield [
            Standing(row.id, row.username, row.score, row.score_reached_at, row.standing_version, row.is_visible)
            for row in rows
        ]
