"""Statements that are prepared once per connection, and arrays sent as text."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DataError, OperationalError

from scoreboard.store.engine import Database, make_engine
from scoreboard.store.prepared import Prepared, array, text_array, uuid_array

TEXTS = Prepared("texts", tuple, text="-- :texts text[]\nSELECT :texts")
VALUES = Prepared(
    "values",
    tuple,
    text="-- :ids uuid[]\n-- :numbers bigint[]\n-- :moments timestamptz[]\n-- :shares float8[]\n"
    "SELECT :ids, :numbers, :moments, :shares",
)
DIVIDE = Prepared("divide", tuple, text="-- :by integer\nSELECT 6 / :by")

# Postgres' text holds every character but this one.
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.none() | anything | st.sampled_from(["NULL", "{", "}", '"', "\\", ",", "", " x "])))
def test_any_texts_arrive_as_they_are(database: Database, texts: list[str | None]) -> None:
    with database.read() as connection:
        assert TEXTS.fetch(connection, texts=text_array(texts)) == [(texts,)]


def test_ids_numbers_and_moments_arrive_as_they_are(database: Database) -> None:
    ids: list[UUID] = [uuid4(), uuid4()]
    numbers = [0, -(2**53), None]
    moments = [datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC), None]
    with database.read() as connection:
        row = VALUES.fetch(
            connection,
            ids=uuid_array(ids),
            numbers=array(numbers),
            moments=array(moments),
            shares=array([0.1, None]),
        )
    assert row == [(ids, numbers, moments, [0.1, None])]


def test_it_is_prepared_once_and_outlives_a_failed_transaction(database: Database) -> None:
    with database.read() as connection:
        assert DIVIDE.fetch(connection, by=2) == [(3,)]
        with pytest.raises(DataError):
            DIVIDE.fetch(connection, by=0)
        connection.rollback()
        assert DIVIDE.fetch(connection, by=3) == [(2,)]
        names = sa.text("SELECT count(*) FROM pg_prepared_statements WHERE name = 'divide'")
        assert connection.execute(names).scalar_one() == 1


def test_every_connection_prepares_its_own(database: Database) -> None:
    with database.read() as one, database.read() as other:
        assert DIVIDE.fetch(one, by=2) == DIVIDE.fetch(other, by=2) == [(3,)]
    with database.read() as connection:
        connection.invalidate()
        connection.rollback()
        assert DIVIDE.fetch(connection, by=2) == [(3,)]


def test_connections_that_are_cut_leave_their_places_free(database_url: str) -> None:
    database = Database(
        make_engine(database_url, 1, name="cut"),
        autocommitting=make_engine(database_url, 1, name="cut", is_autocommit=True),
    )
    others = make_engine(database_url, 1, name="test", is_autocommit=True)
    cut = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'scoreboard-cut'")
    for connect in (database.write, database.read, database.autocommit) * 3:
        # Cut just before it goes back to the pool, and just before the next question.
        for is_asked_again in (False, True):
            with suppress(OperationalError), connect() as connection:
                assert DIVIDE.fetch(connection, by=2) == [(3,)]
                with others.connect() as killer:
                    killer.execute(cut)
                if is_asked_again:
                    DIVIDE.fetch(connection, by=2)
            assert database.checked_out() == 0
            with suppress(OperationalError), connect() as connection:
                DIVIDE.fetch(connection, by=2)
        with connect() as connection:
            assert DIVIDE.fetch(connection, by=2) == [(3,)]
    others.dispose()
    database.dispose()
