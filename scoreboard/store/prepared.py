"""Statements that Postgres parses and plans once per connection, and arrays that cost little to send.

For what a process says hundreds of times a second: planning a statement of five parts takes
Postgres longer than running it on ten rows. psycopg2 prepares nothing by itself, and turns
each element of a list into SQL one by one; a text that Postgres reads as an array is one element.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa


class Prepared:
    """A statement with parameters ``$1`` … of these types, prepared on each connection at its first use."""

    def __init__(self, name: str, types: Sequence[str], sql: str) -> None:
        self._name = name
        self._prepare = f"PREPARE {name} ({', '.join(types)}) AS {sql}"
        self._execute = f"EXECUTE {name} ({', '.join(['%s'] * len(types))})"

    def fetch(self, connection: sa.Connection, *arguments: object) -> list[tuple[Any, ...]]:
        """Execute it and get all rows, as plain as the driver has them."""
        return _rows_of(self.execute(connection, *arguments))

    def execute(self, connection: sa.Connection, *arguments: object) -> sa.CursorResult[Any]:
        self.prepare(connection)
        return connection.exec_driver_sql(self._execute, arguments)

    def fetch_after(
        self, first: Prepared, first_arguments: Sequence[object], connection: sa.Connection, *arguments: object
    ) -> list[tuple[Any, ...]]:
        """Execute ``first``, then this, in one message: its rows, of a snapshot that begins when ``first`` is done.

        On a connection that commits by itself both are one transaction.
        """
        first.prepare(connection)
        self.prepare(connection)
        statements = f"{first._execute}; {self._execute}"
        return _rows_of(connection.exec_driver_sql(statements, (*first_arguments, *arguments)))

    def prepare(self, connection: sa.Connection) -> None:
        # Lives and dies with the connection, as what is prepared on it does.
        known = connection.info
        if self._name not in known:
            connection.exec_driver_sql(self._prepare)
            known[self._name] = True


def _rows_of(result: sa.CursorResult[Any]) -> list[tuple[Any, ...]]:
    rows = list(result.cursor.fetchall())
    result.close()
    return rows


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
