"""Statements that Postgres parses and plans once per connection, and arrays that cost little to send.

For what a process says hundreds of times a second: planning a statement of five parts takes
Postgres longer than running it on ten rows. psycopg2 prepares nothing by itself, and turns
each element of a list into SQL one by one; a text that Postgres reads as an array is one element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import psycopg2
import sqlalchemy as sa

from scoreboard.store.driver_errors import give_up
from scoreboard.store.pooling import LOCAL_SETTINGS, PLANNED_ONCE, settings_due
from scoreboard.store.statements import Statement

Row = TypeVar("Row")
Answer = TypeVar("Answer")

_PLANNED_ONCE = "".join(f"SET LOCAL {name} = '{value}'; " for name, value in PLANNED_ONCE.items())


class Prepared(Statement[Row]):
    """A named statement, prepared on each connection at its first use.

    Where a pooler may change the server behind the connection after each transaction it is sent whole each time.
    """

    def __init__(self, name: str, row: type[Row], *, text: str | None = None, begins_transaction: bool = False) -> None:
        """``begins_transaction``: what it begins consists of look-ups by key, and is planned so (``PLANNED_ONCE``)."""
        super().__init__(name, row, text=text)
        self._before = _PLANNED_ONCE if begins_transaction else ""

    def fetch(self, connection: sa.Connection, /, **arguments: object) -> list[Row]:
        """Execute it and get all rows, as plain as the driver has them."""
        return self._rows(_execute(connection, *self._message(connection, arguments), _all_rows))

    def execute(self, connection: sa.Connection, /, **arguments: object) -> int:
        """Execute it for what it changes; returns the number of rows that it found or changed."""
        return _execute(connection, *self._message(connection, arguments), _row_count)

    def fetch_after(
        self,
        first: Prepared[Any],
        first_arguments: Mapping[str, object],
        connection: sa.Connection,
        /,
        **arguments: object,
    ) -> list[Row]:
        """Execute ``first``, then this, in one message: its rows, of a snapshot that begins when ``first`` is done.

        On a connection that commits by itself both are one transaction.
        """
        before, values_before = first._message(connection, first_arguments)
        statement, values = self._message(connection, arguments)
        return self._rows(_execute(connection, f"{before}; {statement}", (*values_before, *values), _all_rows))

    @cached_property
    def _prepare(self) -> str:
        types = self.source.types.values()
        declared = f"({', '.join(types)})" if types else ""
        return f"PREPARE {self.source.name} {declared} AS {self.source.numbered()}"

    @cached_property
    def _execute_it(self) -> str:
        places = ", ".join(["%s"] * len(self.source.types))
        return f"EXECUTE {self.source.name} ({places})" if places else f"EXECUTE {self.source.name}"

    def _message(self, connection: sa.Connection, arguments: Mapping[str, object]) -> tuple[str, Sequence[object]]:
        # Lives and dies with the connection, as what is prepared on it does.
        known = connection.info
        if LOCAL_SETTINGS in known:
            return self._before + self._whole, self._for_whole(arguments)
        self._check(arguments)
        if self.source.name not in known:
            connection.exec_driver_sql(self._prepare)
            known[self.source.name] = True
        return self._before + self._execute_it, [arguments[parameter] for parameter in self.source.types]


def _all_rows(cursor: Any) -> Iterable[Any]:
    rows: Iterable[Any] = cursor.fetchall() if cursor.description else ()
    return rows


def _row_count(cursor: Any) -> int:
    return int(cursor.rowcount)


def _execute(connection: sa.Connection, sql: str, arguments: Sequence[object], read: Callable[[Any], Answer]) -> Answer:
    """Run it on the driver's own cursor: through SQLAlchemy's statements the same takes twice the CPU time.

    Raises what SQLAlchemy would, and like it gives up connections that are lost, or stand in the middle of an answer.
    """
    cursor = None
    try:
        cursor = connection.connection.cursor()
        cursor.execute(settings_due(connection, cursor) + sql, arguments)
        return read(cursor)
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
