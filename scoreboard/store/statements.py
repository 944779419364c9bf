"""The named statements in ``sql/``: one file each, with its parameters and their types in its header.

The header is the comment at the top of the file. A parameter is declared there as
``-- :name type``, with its meaning behind two spaces, and stands in the statement as ``:name``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

Row = TypeVar("Row")

_DECLARED = re.compile(r"^-- +:(\w+) +(\w+(?:\[\])?)(?: {2,}.*)?$", re.MULTILINE)
# Not the two colons of a cast.
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")
_COMMENT_LINE = re.compile(r"^ *--.*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """The text of a statement and the types of its parameters, in the order of the header."""

    name: str
    types: Mapping[str, str]
    sql: str

    @classmethod
    def parse(cls, name: str, text: str) -> Source:
        """Raises ValueError unless each parameter is declared once and used."""
        header = text[: re.search(r"^(?!--)", text, re.MULTILINE).start()]  # type: ignore[union-attr]  # $ matches
        declared = _DECLARED.findall(header)
        sql = _COMMENT_LINE.sub("", text).strip()
        types = dict(declared)
        if len(types) != len(declared) or set(types) != set(_PARAMETER.findall(sql)):
            raise ValueError(f"{name}: the parameters of header and statement differ")
        return cls(name, types, sql)

    @classmethod
    def load(cls, name: str) -> Source:
        """From ``sql/<name>.sql``."""
        return cls.parse(name, resources.files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8"))

    def numbered(self) -> str:
        """With ``$1`` … for the parameters, as PREPARE has them."""
        numbers = {parameter: number for number, parameter in enumerate(self.types, 1)}
        return _PARAMETER.sub(lambda found: f"${numbers[found[1]]}", self.sql)

    @cached_property
    def placeholders(self) -> Sequence[str]:
        """The parameters in the order of the placeholders of ``for_driver``."""
        return _PARAMETER.findall(self.sql)

    def for_driver(self) -> str:
        """With a cast ``%s`` for each use of a parameter."""
        return _PARAMETER.sub(lambda found: f"CAST(%s AS {self.types[found[1]]})", self.sql.replace("%", "%%"))


class Statement(Generic[Row]):
    """A named statement, sent whole each time; its rows are of the NamedTuple ``row``, without names ``tuple``.

    ``text`` stands in for the file. Every method raises SQLAlchemy's errors.
    """

    def __init__(self, name: str, row: type[Row], *, text: str | None = None) -> None:
        self.source = Source.load(name) if text is None else Source.parse(name, text)
        self.row = row
        self._whole = self.source.for_driver()
        self._make: Callable[[Iterable[Any]], Row] = getattr(row, "_make", row)

    def fetch(self, connection: sa.Connection, /, **arguments: object) -> list[Row]:
        """Execute it and get all rows."""
        values = self._for_whole(arguments)
        return self._rows(connection.exec_driver_sql(self._whole, values))

    def stream(self, connection: sa.Connection, /, *, batch: int) -> Iterator[Row]:
        """Get the rows of a statement without parameters through a server-side cursor, ``batch`` at a time."""
        return map(self._make, connection.exec_driver_sql(self._whole, (), execution_options={"yield_per": batch}))

    def execute(self, connection: sa.Connection, /, **arguments: object) -> int:
        """Execute it for its effect; returns the number of rows that it found or changed."""
        values = self._for_whole(arguments)
        return connection.exec_driver_sql(self._whole, values).rowcount

    def fetch_one(self, connection: sa.Connection, /, **arguments: object) -> Row | None:
        """The only row, or None without one."""
        rows = self.fetch(connection, **arguments)
        return rows[0] if rows else None

    def fetch_value(self, connection: sa.Connection, /, **arguments: object) -> Any:
        """The only column of the only row."""
        rows: list[Any] = self.fetch(connection, **arguments)
        ((value,),) = rows
        return value

    def _rows(self, rows: Iterable[Any]) -> list[Row]:
        return list(map(self._make, rows))

    def _for_whole(self, arguments: Mapping[str, object]) -> tuple[object, ...]:
        self._check(arguments)
        return tuple([arguments[parameter] for parameter in self.source.placeholders])

    def _check(self, arguments: Mapping[str, object]) -> None:
        if arguments.keys() != self.source.types.keys():
            raise TypeError(f"{self.source.name} takes {', '.join(self.source.types) or 'no arguments'}")
