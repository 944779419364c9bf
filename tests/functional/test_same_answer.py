"""The same body gets the same answer, whatever happens between an outcome's commit and its telling."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle
from uuid import UUID

import pytest

from config import Settings
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.local import LocalServers
from scoreboard.services.actions.catalogue import load_catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.boards.announce import announce
from scoreboard.store.actions import get_actions
from scoreboard.store.engine import Database, make_engine
from tests.functional.client import Json, Player, completion, data_of, eventually, in_parallel, register
from tests.service import Service, running_service

# Pairs of the same body, some milliseconds apart: before it was mended one in ten or so differed.
PAIRS, APART_MS = 48, (0, 4, 6, 8, 10, 12, 14, 18)
# A sweep every two seconds that looks at what is three seconds old, on busy cores.
SWEPT_S = 40.0


@pytest.fixture(scope="module")
def service(local_servers: LocalServers) -> Iterator[Service]:
    """One whose Redis and worker this module may freeze."""
    with running_service(local_servers) as running:
        yield running


@pytest.fixture
def database(service: Service) -> Iterator[Database]:
    database = Database(
        make_engine(service.database_url.replace("postgresql://", "postgresql+psycopg2://"), 2, name="t")
    )
    yield database
    database.dispose()


def send_twice(player: Player, apart_ms: int) -> tuple[Json, Json]:
    body = completion(player.request_action())

    def later() -> Json:
        time.sleep(apart_ms / 1000)
        return data_of(player.send(body))

    first, second = in_parallel([lambda: data_of(player.send(body)), later])
    return first, second


def test_two_equal_completions_some_milliseconds_apart(service: Service) -> None:
    # So many that nobody is held back for a burst.
    players = [register(service.url) for _ in range(12)]
    for player, apart_ms, _ in zip(cycle(players), cycle(APART_MS), range(PAIRS), strict=False):
        first, second = send_twice(player, apart_ms)
        assert first["previousRank"] is not None
        assert first == second, f"{apart_ms} ms apart"
        assert player.action(first["actionId"])["rank"] == first["rank"]


def told_of(player: Player, body: Json) -> Json:
    """What its owner is answered, one way and the other, as far as both can tell."""
    action_id = body["actionId"]
    shown, answer = player.action(action_id), player.send(body, wait_s=None)
    assert (shown["status"] == "accepted") == (answer.status_code == 202)
    return {**shown, **(answer.json()["data"] if answer.status_code == 200 else {})}


def test_between_commit_and_telling_and_while_redis_is_frozen(service: Service, database: Database) -> None:
    """The worker's steps are taken one by one; web, Postgres and Redis are those of the service."""
    leader, player = register(service.url), register(service.url)
    leader.score_point()
    leader.score_point()
    player.score_point()
    catalogue = load_catalogue(Settings.load().catalogue_path)
    with service.frozen_worker():
        # Two: the second takes the player past the leader.
        bodies = [completion(player.request_action()) for _ in range(2)]
        for body in bodies:
            assert player.send(body, wait_s=None).status_code == 202
        ids = [UUID(body["actionId"]) for body in bodies]
        service.servers.valkey.freeze()
        try:
            settled = settle_actions(database, catalogue, ids)
            assert len(settled) == 2
            for body in bodies:
                untold = told_of(player, body)
                assert (untold["status"], untold["newScore"], untold["settledAt"]) == ("accepted", None, None)
                assert player.send(body, wait_s=1).status_code == 202
            client = make_client(service.redis_url)
            assert not announce(database, Standings(client), EventLog(client), settled)
            frozen = [told_of(player, body) for body in bodies]
            assert [each["status"] for each in frozen] == ["applied"] * 2
            assert frozen[1]["newScore"] == 3
            assert (frozen[1]["rankChange"], frozen[1]["rank"]) == (1, frozen[0]["rank"] - 1)
            for body, before in zip(bodies, frozen, strict=True):
                assert {**told_of(player, body), **data_of(player.send(body, wait_s=5))} == before
        finally:
            service.servers.valkey.thaw()
    # The sweep tells of it late: what it says is what was answered.
    eventually(lambda: is_announced(database, ids), bool, SWEPT_S)
    client = make_client(service.redis_url)
    late = {entry.action_id: entry for entry in EventLog(client).latest(1_000) if entry.action_id in ids}
    for action_id, body, before in zip(ids, bodies, frozen, strict=True):
        assert {**told_of(player, body), **data_of(player.send(body))} == before
        kinds = {kind: data for _, kind, data in late[action_id].events()}
        assert f'"rank":{before["rank"]}' in bytes(kinds["action:result"]).decode()


def is_announced(database: Database, ids: list[UUID]) -> bool:
    with database.read() as connection:
        return all(each.announced_at for each in get_actions(connection, ids))
