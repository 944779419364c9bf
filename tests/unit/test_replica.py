"""A read replica that is away costs its share of reads nothing but the way to the primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from scoreboard.store.engine import Database


class Replica:
    """An engine whose server is there or not."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.is_up = True

    def connect(self) -> sa.Connection:
        if not self.is_up:
            raise OperationalError("connect", None, Exception("connection refused"))
        return self._engine.connect()


def engine_named(name: str) -> sa.Engine:
    """A database that knows its name."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE me (name TEXT)"))
        connection.execute(sa.text("INSERT INTO me VALUES (:name)"), {"name": name})
    return engine


@pytest.fixture
def replica() -> Replica:
    return Replica(engine_named("replica"))


def who(connect: Callable[[], Any]) -> str:
    with connect() as connection:
        return str(connection.execute(sa.text("SELECT name FROM me")).scalar_one())


def test_reads_that_may_lag_go_to_the_primary_while_the_replica_is_away(replica: Replica) -> None:
    lost: list[None] = []
    primary = engine_named("primary")
    database = Database(primary, cast(sa.Engine, replica), on_replica_lost=lambda: lost.append(None))
    assert (who(database.read_stale), who(database.read), len(lost)) == ("replica", "primary", 0)
    replica.is_up = False
    assert (who(database.read_stale), len(lost)) == ("primary", 1)
    replica.is_up = True
    assert (who(database.read_stale), len(lost)) == ("replica", 1)


def test_without_a_replica_nothing_is_lost() -> None:
    lost: list[None] = []
    database = Database(engine_named("primary"), on_replica_lost=lambda: lost.append(None))
    assert (who(database.read_stale), lost) == ("primary", [])
