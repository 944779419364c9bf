"""Clocks minutes apart: what one process dates, another one judges, by the clock that both of them share."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
import redis
import sqlalchemy as sa
import time_machine

from scoreboard.domain.errors import TooManyStreams
from scoreboard.live.standings import Standings
from scoreboard.live.stream.stream_slots import StreamSlots
from scoreboard.local.servers import free_port
from scoreboard.services.upkeep.health import WORKER_SILENT_S, BoardWatch, check_parts, note_worker
from scoreboard.store.clock import DatabaseClock
from scoreboard.store.engine import Database, make_engine

ADDRESS = "192.0.2.1"
SHIFTS = [timedelta(minutes=5), timedelta(minutes=-5)]


def worker_status(database: Database, client: redis.Redis) -> str:
    return check_parts(database, client, Standings(client), lambda: 0, BoardWatch())["workers"].status


def now_of(database: Database) -> float:
    with database.read() as connection:
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


def lease_end(client: redis.Redis) -> float:
    """When the only lease there is runs out."""
    keys: Any = client.keys("sb:streams:ip:*")
    leases: Any = client.zrange(keys[0], 0, -1, withscores=True)
    ((_, end),) = leases
    return float(end)


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_clock_is_the_databases(database: Database, shift: timedelta) -> None:
    with time_machine.travel(shift, tick=True):
        clock = DatabaseClock(database)
        assert clock() == pytest.approx(now_of(database), abs=1)
    # It goes on steadily while this machine's is being set.
    assert clock() == pytest.approx(now_of(database), abs=1)


def test_without_an_answer_the_clock_is_this_machines_own() -> None:
    nowhere = Database(make_engine(f"postgresql+psycopg2://nobody@127.0.0.1:{free_port()}/none", 2, name="test"))
    clock = DatabaseClock(nowhere)
    assert clock() == pytest.approx(time.time(), abs=1)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_worker_is_seen_and_missed_whatever_its_clock_says(
    database: Database, client: redis.Redis, shift: timedelta
) -> None:
    assert worker_status(database, client) == "down"
    with time_machine.travel(shift, tick=True):
        note_worker(client)
    assert worker_status(database, client) == "ok"
    with time_machine.travel(shift, tick=True):
        assert worker_status(database, client) == "ok"
    # As if it had been seen so much earlier: the clock of Redis can't be moved.
    seen = client.get("sb:worker:seen")
    assert isinstance(seen, bytes)
    client.set("sb:worker:seen", f"{float(seen) - WORKER_SILENT_S:.3f}")
    with time_machine.travel(shift, tick=True):
        assert worker_status(database, client) == "down"


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_lease_of_an_open_stream_is_renewed_by_the_clock_that_ends_it(
    client: redis.Redis, shift: timedelta
) -> None:
    places = StreamSlots(client, per_user=1, per_ip=1)
    places.claim(None, ADDRESS)
    begun = lease_end(client)
    with time_machine.travel(shift, tick=True):
        # What its thread does once a minute.
        places._renew()
    assert begun <= lease_end(client) < begun + 30
    with pytest.raises(TooManyStreams):
        places.claim(None, ADDRESS)
