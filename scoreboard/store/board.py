"""The board read from Postgres: the truth, and what is served while Redis is not whole."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg2
import sqlalchemy as sa

from scoreboard.domain.standings import Board, Entry, RawStanding, Standing, microseconds
from scoreboard.store.driver_errors import give_up
from scoreboard.store.tables import users

_VISIBLE = sa.text("status <> 'banned' AND NOT is_hidden")
_ROW = [users.c.id, users.c.username, users.c.score, users.c.score_reached_at]
_RAW_STANDINGS = """
    SELECT uuid_send(id), standing_version, score, CAST(extract(epoch FROM score_reached_at) * 1000000 AS bigint),
           status <> 'banned' AND NOT is_hidden, username
    FROM users ORDER BY score, score_reached_at DESC, id DESC
"""
_ORDER_COLUMNS = [users.c.score, users.c.score_reached_at, users.c.id]
_ORDER = [users.c.score.desc(), users.c.score_reached_at, users.c.id]
# How new the rows are. On a replica, when what it has replayed last was committed: its own time would give old rows a
# new version, behind which the newer ones were dropped.
_NOW: sa.Label[datetime] = sa.case(
    (
        sa.func.pg_is_in_recovery(),
        sa.func.coalesce(sa.func.pg_last_xact_replay_timestamp(), sa.func.pg_postmaster_start_time()),
    ),
    else_=sa.func.clock_timestamp(),
).label("now")
# Put together once: that costs more than running it. The rows to skip are skipped in the index alone.
_PLACES = (
    sa.select(*_ORDER_COLUMNS)
    .where(_VISIBLE)
    .order_by(*_ORDER)
    .offset(sa.bindparam("offset", type_=sa.Integer))
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .subquery()
)
_PAGE = sa.select(*_ROW, _NOW).join(_PLACES, users.c.id == _PLACES.c.id).where(_VISIBLE).order_by(*_ORDER)


def count_players(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(users).where(_VISIBLE)).scalar_one()


@dataclass(frozen=True, slots=True)
class Totals:
    """All accounts of one moment, and how far Redis may rightly be behind them."""

    # On the board, and standings noted for publishing.
    players: int
    noted: int
    # The sum of the versions of all standings, and what of it has perhaps not been published yet, at most.
    versions: int
    versions_pending: int


# A note may stand for any number of changes of its player, an action raises a version by one.
_TOTALS = sa.text(
    """
    SELECT count(*) FILTER (WHERE status <> 'banned' AND NOT is_hidden) AS players,
           CAST(sum(standing_version) AS bigint) AS versions,
           (SELECT count(*) FROM standing_outbox) AS noted,
           (SELECT coalesce(sum(standing_version), 0) FROM users WHERE id IN (SELECT user_id FROM standing_outbox))
           + (SELECT coalesce(sum(cardinality(action_ids)), 0) FROM settlements WHERE announced_at IS NULL) AS pending
    FROM users
    """
)


def read_totals(connection: sa.Connection) -> Totals:
    row = connection.execute(_TOTALS).one()
    return Totals(row.players, row.noted, row.versions or 0, int(row.pending))


def read_board(connection: sa.Connection, *, offset: int, limit: int, total: int | None = None) -> Board:
    """Rows ``offset`` … ``offset + limit``; version and time from the database's clock.

    The players are counted unless ``total`` is given. Skipping is linear in the offset.
    """
    rows = connection.execute(_PAGE, {"offset": offset, "limit": limit}).all()
    entries = tuple(
        Entry(offset + place, row.id, row.username, row.score, row.score_reached_at)
        for place, row in enumerate(rows, start=1)
    )
    at: datetime = rows[0].now if rows else connection.execute(sa.select(_NOW)).scalar_one()
    return Board(entries, count_players(connection) if total is None else total, microseconds(at))


def rank_of(connection: sa.Connection, user_id: UUID) -> int | None:
    """Place of a player from 1, None when not on the board.

    Counts those ahead, so it is linear in the rank: two ranges of the index, because it can't look for an "or".
    """
    row = connection.execute(sa.select(*_ROW).where(users.c.id == user_id, _VISIBLE)).one_or_none()
    if row is None:
        return None
    with_more = _count(users.c.score > row.score)
    before = sa.tuple_(users.c.score_reached_at, users.c.id) < sa.tuple_(row.score_reached_at, row.id)
    with_as_many = _count(users.c.score == row.score, before)
    return connection.execute(sa.select(with_more + with_as_many)).scalar_one() + 1


# Two ranges of the index for each, as for one player.
_PLACES_OF = sa.text(
    """
    SELECT (SELECT count(*) FROM users WHERE status <> 'banned' AND NOT is_hidden AND score > asked.score
            AND id <> asked.id)
           + (SELECT count(*) FROM users WHERE status <> 'banned' AND NOT is_hidden AND score = asked.score
              AND (score_reached_at, id) < (asked.reached_at, asked.id) AND id <> asked.id) + 1
    FROM unnest(CAST(:ids AS uuid[]), CAST(:scores AS bigint[]), CAST(:reached AS timestamptz[]))
         WITH ORDINALITY AS asked (id, score, reached_at, nth)
    ORDER BY asked.nth
    """
)


def places_of(connection: sa.Connection, standings: Sequence[Standing], *, walk_max: int) -> list[int | None]:
    """Which place each of these standings would have today, from 1; None for hidden ones.

    Counting those ahead takes some 0.1 µs each: at most ``walk_max`` are counted in all, by an estimate of the number
    of accounts, and the standings beyond that get None.
    """
    accounts = connection.scalar(sa.text("SELECT reltuples FROM pg_class WHERE oid = 'users'::regclass"))
    affordable = int(walk_max // max(1.0, accounts or 0.0))
    asked = [each for each in standings if each.is_visible][:affordable]
    if not asked:
        return [None] * len(standings)
    arguments = {
        "ids": [each.user_id for each in asked],
        "scores": [each.score for each in asked],
        "reached": [each.reached_at for each in asked],
    }
    found = iter(connection.execute(_PLACES_OF, arguments).scalars().all())
    return [next(found, None) if each.is_visible else None for each in standings]


def _count(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(users).where(_VISIBLE, *conditions).scalar_subquery()


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


def stream_raw_standings(connection: sa.Connection, *, batch: int) -> Generator[Sequence[RawStanding], None, None]:
    """Every account's standing for a rebuild, from the board's end upwards, in batches through a server-side cursor.

    The rows are the driver's own: SQLAlchemy's would cost more than all the rest.
    """
    try:
        with closing(connection.connection.cursor(name="standings")) as cursor:
            cursor.execute(_RAW_STANDINGS)
            while rows := cursor.fetchmany(batch):
                yield rows
    except psycopg2.Error as error:
        raise give_up(connection, _RAW_STANDINGS, error) from error
