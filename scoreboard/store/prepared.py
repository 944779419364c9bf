"""Statements that Postgres parses and plans once per connection, and arrays that cost little to send.

For what a process says hundreds of times a second: planning a statement of five parts takes
Postgres longer than running it on ten rows. psycopg2 prepares nothing by itself, and turns
each element of a list into SQL one by one; a text that Postgres reads as an array is one element.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import psycopg2
import sqlalchemy as sa

from scoreboard.store.driver_errors import give_up
from scoreboard.store.pooling import LOCAL_SETTINGS, settings_due

_PARAMETER = re.compile(r"\$(\d+)")


class Prepared:
    """A statement with parameters ``$1`` … of these types, prepared on each connection at its first use.

    Where a pooler may change the server behind the connection after each transaction it is sent whole each time.
    """

    def __init__(self, name: str, types: Sequence[str], sql: str) -> None:
        self._name = name
        self._prepare = f"PREPARE {name} ({', '.join(types)}) AS {sql}"
        self._execute = f"EXECUTE {name} ({', '.join(['%s'] * len(types))})"
        self._whole = _PARAMETER.sub(lambda found: f"CAST(%s AS {types[int(found[1]) - 1]})", sql.replace("%", "%%"))
        # Which argument each of its places takes.
        self._places = [int(number) - 1 for number in _PARAMETER.findall(sql)]

    def fetch(self, connection: sa.Connection, *arguments: object) -> list[tuple[Any, ...]]:
        """Execute it and get all rows, as plain as the driver has them."""
        return _rows(connection, *self._statement(connection, arguments))

    def execute(self, connection: sa.Connection, *arguments: object) -> None:
        """Execute it for what it changes."""
        self.fetch(connection, *arguments)

    def fetch_after(
        self, first: Prepared, first_arguments: Sequence[object], connection: sa.Connection, *arguments: object
    ) -> list[tuple[Any, ...]]:
        """Execute ``first``, then this, in one message: its rows, of a snapshot that begins when ``first`` is done.

        On a connection that commits by itself both are one transaction.
        """
        before, its_arguments = first._statement(connection, first_arguments)
        statement, own_arguments = self._statement(connection, arguments)
        return _rows(connection, f"{before}; {statement}", (*its_arguments, *own_arguments))

    def _statement(self, connection: sa.Connection, arguments: Sequence[object]) -> tuple[str, Sequence[object]]:
        # Lives and dies with the connection, as what is prepared on it does.
        known = connection.info
        if LOCAL_SETTINGS in known:
            return self._whole, [arguments[place] for place in self._places]
        if self._name not in known:
            connection.exec_driver_sql(self._prepare)
            known[self._name] = True
        return self._execute, arguments


def _rows(connection: sa.Connection, sql: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
    """Run it on the driver's own cursor: through SQLAlchemy's statements the same takes twice the CPU time.

    Raises what SQLAlchemy would, and like it gives up connections that are lost, or stand in the middle of an answer.
    """
    cursor = None
    try:
        cursor = connection.connection.cursor()
        cursor.execute(settings_due(connection, cursor) + sql, arguments)
        return list(cursor.fetchall()) if cursor.description else []
    except psycopg2.Error as error:
        raise give_up(connection, sql, error) from error
    except BaseException as error:
        if not isinstance(error, Exception):
            connection.invalidate(error)
        raise
    finally:
        if cursor is not None:
            cursor.close()


def uuid_array(values: Iterable[UUID]) -> str:
    # Postgres needs no hyphens, and leaving them out takes a quarter of the time.
    return "{" + ",".join([value.hex for value in values]) + "}"


def array(values: Iterable[object]) -> str:
    """Numbers, moments or words without spaces as the text of an array."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """Any texts as the text of an array."""
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
