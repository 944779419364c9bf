"""Many requests that ask at once who they are share one question to Postgres."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from scoreboard.services.accounts.callers import CallerLookup
from scoreboard.services.accounts.sessions import open_session
from scoreboard.store import sessions
from scoreboard.store.audit import Origin
from scoreboard.store.engine import UNAVAILABLE, Database, make_engine
from tests.integration.conftest import add_user

CROWD = 60
WAIT_S = 30.0


class SlowDatabase(Database):
    """The real database behind a gate: each question waits until it is opened, and is counted."""

    def __init__(self, primary: sa.Engine) -> None:
        super().__init__(primary)
        self.gate = threading.Event()
        self.questions = 0

    @contextmanager
    def autocommit(self) -> Iterator[sa.Connection]:
        self.questions += 1
        assert self.gate.wait(WAIT_S)
        with super().autocommit() as connection:
            yield connection


class RecoveringDatabase(Database):
    """Down, until it is given a healthy one to answer in its place."""

    healthy: Database | None = None

    @contextmanager
    def autocommit(self) -> Iterator[sa.Connection]:
        with self.healthy.autocommit() if self.healthy else super().autocommit() as connection:
            yield connection


def sign_in(database: Database) -> UUID:
    user = add_user(database)
    with database.write() as connection:
        return open_session(connection, user, ttl_s=60, origin=Origin()).session_id


def test_a_crowd_is_answered_in_two_questions(database: Database) -> None:
    living = [sign_in(database) for _ in range(CROWD - 2)]
    ended = sign_in(database)
    with database.write() as connection:
        sessions.revoke(connection, ended, "logout")
    slow = SlowDatabase(database.primary)
    lookup = CallerLookup(slow)
    with ThreadPoolExecutor(CROWD) as pool:
        first = pool.submit(lookup.find, living[0])
        deadline = time.monotonic() + WAIT_S
        while not slow.questions:
            assert time.monotonic() < deadline
        answers = [pool.submit(lookup.find, each) for each in [*living[1:], ended, uuid4()]]
        # All have to be waiting behind the first question before it is answered.
        while lookup.waiting < len(answers):
            assert time.monotonic() < deadline
        slow.gate.set()
        found = [answer.result(WAIT_S) for answer in [first, *answers]]
    assert slow.questions == 2
    assert [each is not None and (each[0].session_id, each[1]) for each in found[:-2]] == [
        (each, True) for each in living
    ]
    assert found[-2] is not None
    assert found[-2][1] is False
    assert found[-1] is None


def test_everybody_hears_that_postgres_is_down_and_the_next_ones_that_it_is_back(database: Database) -> None:
    session_id = sign_in(database)
    recovering = RecoveringDatabase(make_engine("postgresql+psycopg2://nobody@127.0.0.1:1/nothing", 1, name="test"))
    lookup = CallerLookup(recovering)
    for _ in range(2):
        with pytest.raises(UNAVAILABLE):
            lookup.find(session_id)
    recovering.healthy = database
    found = lookup.find(session_id)
    assert found is not None
    assert found[1] is True
