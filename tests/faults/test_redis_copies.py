"""A restarted Redis that holds an older copy of itself: neither its board is believed nor its place in the stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
import redis
from redis.exceptions import NoPermissionError

from scoreboard.domain.standings import Standing
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import POSITION, STREAM, EventLog, for_user
from scoreboard.local import LocalServers
from scoreboard.wire.events import Event
from tests.servers import servers_in
from tests.service import open_folder

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PLAYER = UUID(int=7)


@pytest.fixture
def own() -> Iterator[LocalServers]:
    with open_folder() as folder, servers_in(folder, with_postgres=False) as servers:
        yield servers


@dataclass(frozen=True)
class Operator:
    """A server of the test's own, and who the service is there: a user who may do anything, or one without INFO."""

    servers: LocalServers
    is_restricted: bool

    def make_user(self) -> str:
        """The service's URL; its user is not kept over a restart, so it is made again with each."""
        if not self.is_restricted:
            return self.servers.redis_url
        with redis.Redis.from_url(self.servers.redis_url) as operator:
            operator.acl_setuser(
                "service", enabled=True, passwords=["+secret"], keys="*", categories=["+@all", "-@dangerous"]
            )
        return f"redis://service:secret@127.0.0.1:{self.servers.valkey.port}/0"

    def copied(self) -> Mapping[bytes, bytes]:
        with redis.Redis.from_url(self.servers.redis_url) as operator:
            return {key: operator.dump(key) or b"" for key in operator.scan_iter("sb:*")}

    def restart_with(self, copy: Mapping[bytes, bytes]) -> None:
        self.servers.valkey.kill()
        self.servers.valkey.start()
        with redis.Redis.from_url(self.servers.redis_url) as operator:
            for key, value in copy.items():
                operator.restore(key, 0, value)
        self.make_user()


@pytest.fixture(params=[False, True], ids=["any user", "a user without INFO"])
def operator(own: LocalServers, request: pytest.FixtureRequest) -> Operator:
    return Operator(own, request.param)


@pytest.fixture
def client(operator: Operator) -> redis.Redis:
    client = make_client(operator.make_user())
    if operator.is_restricted:
        with pytest.raises(NoPermissionError):
            client.info()
    return client


def standing(version: int) -> Standing:
    return Standing(PLAYER, "somebody", version, NOW, version, True)


def test_the_older_board_is_not_shown(operator: Operator, client: redis.Redis) -> None:
    standings = Standings(client)
    standings.begin_rebuild("a token")
    standings.apply([standing(1)])
    standings.finish_rebuild("a token")
    older = operator.copied()
    assert standings.apply([standing(5)]).is_whole
    assert standings.sum_versions() == 5
    operator.restart_with(older)
    assert not standings.is_whole()
    assert standings.read(offset=0, limit=10) is None
    assert standings.read_around(PLAYER, radius=1) is None
    assert not standings.apply([standing(6)]).is_whole, "ranks on an older board mean nothing"
    assert standings.sum_versions() == 6


def test_places_in_the_stream_are_not_given_out_twice(operator: Operator, client: redis.Redis) -> None:
    """The older copy's next offsets have been seen by browsers, also when it overtakes them before anybody looks."""
    events = EventLog(client)

    def publish(count: int) -> None:
        events.publish([for_user(PLAYER, [Event("score:update", {"number": number})]) for number in range(count)])

    publish(1)
    older = operator.copied()
    assert {STREAM.encode(), POSITION.encode()} <= set(older)
    publish(3)
    seen = events.position()
    operator.restart_with(older)
    publish(9)
    assert events.position().epoch > seen.epoch
    assert events.position().offset == 9


def test_processes_agree_on_the_run_also_when_redis_is_emptied(operator: Operator, client: redis.Redis) -> None:
    first, second = Standings(client), Standings(make_client(operator.make_user()))
    for _ in range(2):
        first.begin_rebuild("a token")
        first.finish_rebuild("a token")
        assert second.is_whole()
        assert second.read(offset=0, limit=10) is not None
        client.delete(*client.scan_iter("sb:*"))
        assert not second.is_whole()


def test_an_emptied_script_cache_is_a_new_run_at_worst(operator: Operator, client: redis.Redis) -> None:
    first, second = Standings(client), Standings(make_client(operator.make_user()))
    with redis.Redis.from_url(operator.servers.redis_url) as anybody:
        for token in ("one", "two"):
            first.begin_rebuild(token)
            first.finish_rebuild(token)
            assert second.is_whole()
            anybody.script_flush()
            assert second.is_whole() == first.is_whole() == (not operator.is_restricted)
