"""A restarted Redis that holds an older copy of itself: neither its board is believed nor its place in the stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest
import redis

from scoreboard.domain.events import Event
from scoreboard.domain.standings import Standing
from scoreboard.live.connection import make_client
from scoreboard.live.events import POSITION, STREAM, EventLog, for_user
from scoreboard.live.standings import Standings
from scoreboard.local import LocalServers
from tests.service import open_folder

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PLAYER = UUID(int=7)


@pytest.fixture
def own() -> Iterator[LocalServers]:
    with open_folder() as folder, LocalServers(folder, with_postgres=False) as servers:
        yield servers


@pytest.fixture
def client(own: LocalServers) -> redis.Redis:
    return make_client(own.redis_url)


def standing(version: int) -> Standing:
    return Standing(PLAYER, "somebody", version, NOW, version, True)


def copied(client: redis.Redis) -> Mapping[bytes, bytes]:
    return {key: client.dump(key) or b"" for key in client.scan_iter("sb:*")}


def restart_with(own: LocalServers, client: redis.Redis, copy: Mapping[bytes, bytes]) -> None:
    own.valkey.kill()
    own.valkey.start()
    for key, value in copy.items():
        client.restore(key, 0, value)


def test_the_older_board_is_not_shown(own: LocalServers, client: redis.Redis) -> None:
    standings = Standings(client)
    standings.begin_rebuild("a token")
    standings.apply([standing(1)])
    standings.finish_rebuild("a token")
    older = copied(client)
    assert standings.apply([standing(5)]).is_whole
    assert standings.sum_versions() == 5
    restart_with(own, client, older)
    assert not standings.is_whole()
    assert standings.read(offset=0, limit=10) is None
    assert standings.read_around(PLAYER, radius=1) is None
    assert not standings.apply([standing(6)]).is_whole, "ranks on an older board mean nothing"
    assert standings.sum_versions() == 6


def test_places_in_the_stream_are_not_given_out_twice(own: LocalServers, client: redis.Redis) -> None:
    """The older copy's next offsets have been seen by browsers, also when it overtakes them before anybody looks."""
    events = EventLog(client)

    def publish(count: int) -> None:
        events.publish([for_user(PLAYER, [Event("score:update", {"number": number})]) for number in range(count)])

    publish(1)
    older = copied(client)
    assert {STREAM.encode(), POSITION.encode()} <= set(older)
    publish(3)
    seen = events.position()
    restart_with(own, client, older)
    publish(9)
    assert events.position().epoch > seen.epoch
    assert events.position().offset == 9
