"""Errors of the driver where a statement runs on its own cursor, past SQLAlchemy and its hooks."""

from __future__ import annotations

import psycopg2
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from scoreboard.store.refusals import ServerRefuses, meaning_of


def give_up(connection: sa.Connection, sql: str, error: psycopg2.Error) -> BaseException:
    """The error that SQLAlchemy would raise; as SQLAlchemy does, a lost connection is given up."""
    meaning = meaning_of(error)
    is_lost = meaning.is_connection_bad if meaning else False
    is_lost = is_lost or connection.dialect.is_disconnect(error, connection.connection, None)  # type: ignore[arg-type]
    if is_lost:
        connection.invalidate(error)
        # The pool's other connections are most likely lost too: each would fail its next user.
        connection.engine.dispose()
    if meaning:
        return ServerRefuses(sql, None, error, hide_parameters=True, connection_invalidated=is_lost)
    return DBAPIError.instance(sql, None, error, psycopg2.Error, hide_parameters=True, connection_invalidated=is_lost)
