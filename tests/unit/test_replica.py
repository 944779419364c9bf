"""A read replica that is away costs its share of reads nothing but the way to the primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from scoreboard.store import replica as store_replica
from scoreboard.store.engine import UNAVAILABLE, Database


class Replica:
    """An engine whose server is there or not."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.is_up = True
        self.connects = 0

    def dispose(self) -> None:
        pass

    def connect(self) -> sa.Connection:
        self.connects += 1
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


def name_of(connection: sa.Connection) -> str:
    return str(connection.execute(sa.text("SELECT name FROM me")).scalar_one())


def who(read: Callable[[], Any]) -> str:
    with read() as connection:
        return name_of(connection)


def test_reads_that_may_lag_go_to_the_primary_while_the_replica_is_away(replica: Replica) -> None:
    lost: list[None] = []
    primary = engine_named("primary")
    database = Database(primary, cast(sa.Engine, replica), on_replica_lost=lambda: lost.append(None))
    assert (database.read_stale(name_of), who(database.read), len(lost)) == ("replica", "primary", 0)
    replica.is_up = False
    assert (database.read_stale(name_of), len(lost)) == ("primary", 1)


def test_a_replica_that_was_away_is_tried_by_one_question_at_a_time(replica: Replica) -> None:
    now, asked = [100.0], []

    def question(connection: sa.Connection) -> str:
        asked.append(name_of(connection))
        return asked[-1]

    watched = store_replica.Replica(cast(sa.Engine, replica), UNAVAILABLE, lambda: None, clock=lambda: now[0])
    replica.is_up = False
    assert [watched.ask(question) for _ in range(10)] == [None] * 10
    assert replica.connects == 1
    now[0] += store_replica.ASK_AGAIN_S
    assert [watched.ask(question) for _ in range(10)] == [None] * 10
    assert replica.connects == 2
    replica.is_up = True
    now[0] += store_replica.ASK_AGAIN_S
    assert watched.ask(question) == store_replica.Answered("replica")


def test_without_a_replica_nothing_is_lost() -> None:
    lost: list[None] = []
    database = Database(engine_named("primary"), on_replica_lost=lambda: lost.append(None))
    assert (database.read_stale(name_of), lost) == ("primary", [])
