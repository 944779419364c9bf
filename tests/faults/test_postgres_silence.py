"""A Postgres that gives no answer is given up by the clock, in a process that waits as a worker's does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from psycopg2.extensions import set_wait_callback

from scoreboard.local import LocalServers
from scoreboard.store.engine import UNAVAILABLE, make_engine
from scoreboard.store.timeouts import CONNECT_S, answer_timeout, give_up_on_silence, wait_in_thread
from tests.faults.tcp_proxy import TcpProxy

STATEMENT_S = 1
# Two seconds more than a statement's own bound; here none, to be waited for less.
ANSWER_S = 2
# What the machine may take on top of a bound.
SLACK_S = 5.0


@pytest.fixture
def proxy(fault_servers: LocalServers) -> Iterator[TcpProxy]:
    with TcpProxy(fault_servers.database_url) as proxy:
        yield proxy


@pytest.fixture
def engine(proxy: TcpProxy, fault_servers: LocalServers) -> Iterator[sa.Engine]:
    give_up_on_silence(wait_in_thread, 0)
    url = proxy.url_for(fault_servers.database_url).replace("postgresql://", "postgresql+psycopg2://")
    engine = make_engine(url, 2, name="test", statement_timeout_s=STATEMENT_S)
    try:
        yield engine
    finally:
        set_wait_callback(None)
        engine.dispose()


def ask(engine: sa.Engine, what: str = "SELECT 1") -> object:
    with engine.connect() as connection:
        return connection.execute(sa.text(what)).scalar_one()


def assert_given_up(engine: sa.Engine, after_s: float) -> None:
    asked_at = time.monotonic()
    with pytest.raises(UNAVAILABLE, match=f"no answer within {after_s:.0f} s"):
        ask(engine)
    assert after_s <= time.monotonic() - asked_at < after_s + SLACK_S


def test_an_answer_that_never_comes(proxy: TcpProxy, engine: sa.Engine) -> None:
    """A statement, then a connection: neither is waited for without end; and all is well as soon as it answers."""
    assert ask(engine) == 1
    proxy.swallow("answers")
    # Postgres' own time-out would have come first.
    assert_given_up(engine, ANSWER_S)
    assert_given_up(engine, min(CONNECT_S, ANSWER_S))
    proxy.heal()
    assert ask(engine) == 1


def test_answer_timeout_may_be_shorter_and_longer(proxy: TcpProxy, engine: sa.Engine) -> None:
    assert ask(engine) == 1
    with answer_timeout(30), engine.connect() as connection:
        connection.execute(sa.text("SET statement_timeout = 0"))
        assert connection.execute(sa.text("SELECT 1 FROM pg_sleep(2.3)")).scalar_one() == 1
    proxy.swallow("answers")
    with answer_timeout(1):
        assert_given_up(engine, 1)


def test_its_own_time_out_comes_first(engine: sa.Engine) -> None:
    with pytest.raises(UNAVAILABLE, match="statement timeout"):
        ask(engine, "SELECT pg_sleep(20)")
