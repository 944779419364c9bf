"""Every named statement is one that PostgreSQL knows, with rows like the type that they are read into."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

import scoreboard.store
from scoreboard.store.engine import Database
from scoreboard.store.statements import Statement


def statements() -> Iterator[tuple[str, Statement[Any]]]:
    for module in pkgutil.iter_modules(scoreboard.store.__path__, "scoreboard.store."):
        if not module.ispkg:
            values = vars(importlib.import_module(module.name)).values()
            yield from ((value.source.name, value) for value in values if isinstance(value, Statement))


STATEMENTS = dict(statements())


@pytest.mark.parametrize("name", STATEMENTS)
def test_postgres_takes_it_with_its_parameters(database: Database, name: str) -> None:
    source = STATEMENTS[name].source
    types = f"({', '.join(source.types.values())})" if source.types else ""
    with database.read() as connection:
        connection.exec_driver_sql(f"PREPARE {name} {types} AS {source.numbered()}")
        told = sa.text("SELECT CAST(parameter_types AS text[]) FROM pg_prepared_statements WHERE name = :name")
        aliases = sa.text("SELECT CAST(CAST(:type AS regtype) AS text)")
        asked = [connection.execute(aliases, {"type": each}).scalar_one() for each in source.types.values()]
        assert connection.execute(told, {"name": name}).scalar_one() == asked
        connection.exec_driver_sql(f"DEALLOCATE {name}")


@pytest.mark.parametrize("name", [name for name, statement in STATEMENTS.items() if statement.row is not tuple])
def test_its_columns_are_those_of_its_row(database: Database, name: str) -> None:
    statement = STATEMENTS[name]
    with database.read() as connection:
        result = connection.exec_driver_sql(statement.source.for_driver(), (None,) * len(statement.source.placeholders))
        assert tuple(result.keys()) == statement.row._fields
