"""The hub on a real Redis: nothing missed, doubled or backwards, also through faults of Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import redis

from scoreboard.domain.actions import State
from scoreboard.domain.standings import Board, Standing
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog, Position, board_changed, for_user, session_ended, user_ended
from scoreboard.live.stream.hub import Hub
from scoreboard.live.stream.outlet import QueueOutlet
from scoreboard.live.stream.subscriptions import Subscription
from scoreboard.local import LocalServers
from scoreboard.services.actions.outcomes import outcome_json
from scoreboard.services.boards.publish import entries_after
from scoreboard.store.actions import ActionOutcome
from scoreboard.wire.encoding import to_json
from scoreboard.wire.events import Event, UpdatedUser
from tests.functional.client import eventually
from tests.functional.sse import SseEvent, SseParser
from tests.integration.test_standings import make_whole, standing
from tests.servers import servers_in
from tests.service import open_folder

WAIT_S = 30.0


class Reader:
    """Drains a subscription the way a stream does, and parses what comes."""

    def __init__(self, subscription: Subscription) -> None:
        assert isinstance(subscription.outlet, QueueOutlet)
        self.outlet = subscription.outlet
        self.subscription = subscription
        self._parser = SseParser()
        self.events: list[SseEvent] = []

    def until(self, condition: Callable[[list[SseEvent]], bool]) -> list[SseEvent]:
        deadline = time.monotonic() + WAIT_S
        while not condition(self.events):
            assert time.monotonic() < deadline, [event.event for event in self.events]
            self.events += self._parser.feed(self.outlet.take(0.05))
        return self.events

    def named(self, name: str) -> list[SseEvent]:
        return [event for event in self.events if event.event == name]

    def boards(self) -> list[dict[str, Any]]:
        return [event.json() for event in self.events if event.event.startswith("leaderboard:")]

    def until_named(self, name: str, count: int = 1) -> list[SseEvent]:
        self.until(lambda _: len(self.named(name)) >= count)
        return self.named(name)


class Setting:
    """A hub with its stores; more hubs stand for more web processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = make_client(url)
        self.client.flushall()
        self.standings, self.events = Standings(self.client), EventLog(self.client)
        self.alive: set[UUID] | None = None
        self._hubs: list[Hub] = []
        make_whole(self.standings)

    def hub(self, interval_s: float = 0.0) -> Hub:
        def read_top() -> Board:
            found = self.standings.read(offset=0, limit=10)
            if found is None:
                raise redis.ConnectionError("not whole")
            return found.board

        hub = Hub(
            EventLog(make_client(self.url, timeout_s=5.0)),
            read_top=read_top,
            find_alive=lambda ids: set(ids) if self.alive is None else self.alive & set(ids),
            interval_s=interval_s,
        )
        self._hubs.append(hub)
        return hub

    def tell(self, user_id: UUID, *numbers: int) -> None:
        self.events.publish([for_user(user_id, [Event("score:update", {"n": number})]) for number in numbers])

    def score(self, changed: Standing) -> None:
        self.standings.apply([changed])
        updated = UpdatedUser(userId=changed.user_id, oldRank=None, newRank=None, scoreChange=0)
        self.events.publish([board_changed(updated)])

    def close(self) -> None:
        for hub in self._hubs:
            hub.stop()


@pytest.fixture
def setting(local_servers: LocalServers) -> Iterator[Setting]:
    setting = Setting(local_servers.redis_url)
    yield setting
    setting.close()


def numbers(events: list[SseEvent]) -> list[int]:
    return [event.json()["n"] for event in events if event.event == "score:update"]


def test_the_board_comes_first_and_changes_follow(setting: Setting) -> None:
    one = standing(5)
    setting.standings.apply([one])
    reader = Reader(setting.hub().subscribe(None, None, None))
    (initial,) = reader.until_named("leaderboard:initial")
    assert [row["score"] for row in initial.json()["leaderboard"]] == [5]
    setting.score(replace(one, score=7, version=2))
    (update,) = reader.until_named("leaderboard:update")
    assert update.json()["leaderboard"][0]["score"] == 7
    assert update.json()["updatedUser"]["userId"] == str(one.user_id)
    assert update.json()["version"] > initial.json()["version"]
    assert update.id is not None


def test_an_unchanged_top_is_not_sent(setting: Setting) -> None:
    one = standing(5)
    setting.standings.apply([one])
    reader = Reader(setting.hub().subscribe(None, None, None))
    reader.until_named("leaderboard:initial")
    setting.events.publish([board_changed(None)])
    setting.score(replace(one, score=6, version=2))
    updates = reader.until_named("leaderboard:update")
    assert [update.json()["leaderboard"][0]["score"] for update in updates] == [6]


def test_changes_are_gathered_first_at_once_and_last_always(setting: Setting) -> None:
    one = standing(0)
    setting.standings.apply([one])
    interval_s = 1.0
    reader = Reader(setting.hub(interval_s=interval_s).subscribe(None, None, None))
    reader.until_named("leaderboard:initial")
    started_at = time.monotonic()
    for step in range(1, 31):
        setting.score(replace(one, score=step, version=step + 1))
    lasted_s = time.monotonic() - started_at
    first = reader.until_named("leaderboard:update")[0]
    assert time.monotonic() - started_at < interval_s * 0.9, "the first change waited for the interval"
    reader.until(lambda events: events[-1].json()["leaderboard"][0]["score"] == 30)
    assert first.json()["leaderboard"][0]["score"] < 30
    assert len(reader.named("leaderboard:update")) <= 4 + lasted_s // interval_s
    versions = [event.json()["version"] for event in reader.events]
    assert versions == sorted(versions)


def test_private_events_reach_their_player_only(setting: Setting) -> None:
    hub = setting.hub()
    mine, other = uuid4(), uuid4()
    reader, stranger = Reader(hub.subscribe(mine, None, None)), Reader(hub.subscribe(other, None, None))
    setting.tell(mine, 1, 2)
    setting.tell(other, 3)
    reader.until(lambda events: numbers(events) == [1, 2])
    stranger.until(lambda events: numbers(events) == [3])


def test_who_comes_back_gets_what_was_missed_in_order_and_once(setting: Setting) -> None:
    mine = uuid4()
    hub = setting.hub()
    reader = Reader(hub.subscribe(mine, None, None))
    setting.tell(mine, 1, 2)
    reader.until(lambda events: numbers(events) == [1, 2])
    last_id = reader.named("score:update")[0].id
    hub.unsubscribe(reader.subscription)
    other = uuid4()
    witness = Reader(hub.subscribe(other, None, None))
    setting.tell(mine, 3)
    setting.tell(other, 99)
    # What this process has not read yet is not missed: it would follow the board.
    witness.until(lambda events: numbers(events) == [99])
    # The same process, and one that starts only now.
    for process in (hub, setting.hub()):
        returned = Reader(process.subscribe(mine, None, last_id))
        returned.until_named("leaderboard:initial")
        assert numbers(returned.events) == [2, 3]
        assert returned.events[-1].event == "leaderboard:initial"
        process.unsubscribe(returned.subscription)


def test_nothing_is_lost_or_doubled_between_snapshot_and_what_follows(setting: Setting) -> None:
    mine = uuid4()
    hub = setting.hub()
    hub.unsubscribe(hub.subscribe(mine, None, None))
    before = str(setting.events.position())

    def tell_all() -> None:
        for number in range(200):
            setting.tell(mine, number)

    told = threading.Thread(target=tell_all)
    told.start()
    readers = [Reader(hub.subscribe(mine, None, before)) for _ in range(40)]
    told.join(WAIT_S)
    for reader in readers:
        reader.until(lambda events: len(numbers(events)) >= 200)
        assert numbers(reader.events) == list(range(200))


@pytest.mark.parametrize("stale", ["1:1", "nonsense", "99999999999999:1", "0:0"])
def test_an_unknown_place_gets_a_reset_and_a_snapshot(setting: Setting, stale: str) -> None:
    reader = Reader(setting.hub().subscribe(uuid4(), None, stale))
    reader.until_named("leaderboard:initial")
    assert [event.event for event in reader.events] == ["reset", "leaderboard:initial"]


def test_a_place_in_the_future_gets_a_reset(setting: Setting) -> None:
    hub = setting.hub()
    setting.tell(uuid4(), 1)
    here = setting.events.position()
    reader = Reader(hub.subscribe(uuid4(), None, str(Position(here.epoch, here.offset + 1_000))))
    reader.until_named("leaderboard:initial")
    assert [event.event for event in reader.events] == ["reset", "leaderboard:initial"]


def test_a_flush_while_serving_means_reset_for_readers_and_no_silence_after(setting: Setting) -> None:
    mine = uuid4()
    one = standing(1)
    setting.standings.apply([one])
    reader = Reader(setting.hub().subscribe(mine, None, None))
    setting.tell(mine, 1)
    reader.until(lambda events: numbers(events) == [1])
    before = reader.named("leaderboard:initial")[0].json()["version"]
    setting.client.flushall()
    make_whole(setting.standings)
    setting.score(replace(one, score=2, version=2))
    setting.tell(mine, 2)
    reader.until(lambda events: numbers(events) == [1, 2])
    assert reader.named("reset")
    reader.until(lambda _: reader.boards()[-1]["leaderboard"][0]["score"] == 2)
    assert reader.boards()[-1]["version"] > before


def test_a_restarted_redis_and_an_older_copy_are_survived() -> None:
    with open_folder() as folder, servers_in(folder, with_postgres=False) as servers:
        setting = Setting(servers.redis_url)
        mine = uuid4()
        hub = setting.hub()
        reader = Reader(hub.subscribe(mine, None, None))
        setting.tell(mine, 1, 2, 3)
        reader.until(lambda events: numbers(events) == [1, 2, 3])
        position = setting.events.position()
        servers.valkey.kill()
        servers.valkey.start()
        # What an older copy looks like: the same epoch, an earlier offset.
        setting.client.hset("sb:events:position", mapping={"epoch": position.epoch, "offset": position.offset - 2})
        make_whole(setting.standings)
        reader.until_named("reset")
        setting.tell(mine, 4)
        reader.until(lambda events: numbers(events) == [1, 2, 3, 4])
        assert len({event.id for event in reader.named("score:update")}) == 4
        setting.close()


def test_ended_sessions_and_banned_users_lose_their_streams(setting: Setting) -> None:
    hub = setting.hub()
    user, session, other_session = uuid4(), uuid4(), uuid4()
    first, second = hub.subscribe(user, session, None), hub.subscribe(user, other_session, None)
    bystander = hub.subscribe(uuid4(), uuid4(), None)
    setting.events.publish([session_ended(session)])
    _wait(lambda: first.outlet.is_closed)
    assert not second.outlet.is_closed
    setting.events.publish([user_ended(user)])
    _wait(lambda: second.outlet.is_closed)
    assert not bystander.outlet.is_closed


def test_sessions_that_end_while_redis_loses_the_message_are_noticed(setting: Setting) -> None:
    hub = setting.hub()
    session = uuid4()
    subscription = hub.subscribe(uuid4(), session, None)
    setting.alive = {session}
    setting.alive = set()
    _wait(lambda: subscription.outlet.is_closed)


def test_a_waiting_request_is_told_the_outcome(setting: Setting) -> None:
    action_id = uuid4()
    outcome = outcome_json(ActionOutcome(action_id, State.HELD, "BURST", 0.6), None, None)
    with setting.hub().expect(action_id) as expectation:
        setting.events.publish([for_user(uuid4(), [Event("action:result", {})], action_id=action_id, outcome=outcome)])
        assert expectation.wait(WAIT_S) == orjson.loads(to_json(outcome))
    with setting.hub().expect(uuid4()) as unanswered:
        assert unanswered.wait(0.01) is None


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def totals(reader: Reader) -> list[int]:
    return [board["totalPlayers"] for board in reader.boards()]


def join(setting: Setting, count: int) -> None:
    """New players far below the top, told as registering tells it."""
    for _ in range(count):
        setting.events.publish(entries_after(setting.standings.apply([standing(0)]), {}))


def test_a_player_who_joins_below_the_top_is_counted_on_every_stream(setting: Setting) -> None:
    setting.standings.apply([standing(100 + number) for number in range(12)])
    reader = Reader(setting.hub().subscribe(None, None, None))
    reader.until(lambda _: totals(reader) == [12])
    join(setting, 1)
    reader.until(lambda _: totals(reader) == [12, 13])
    assert reader.named("leaderboard:update")[-1].json()["updatedUser"] is None


def test_many_who_join_are_counted_in_few_frames_and_the_last_one_always(setting: Setting) -> None:
    setting.standings.apply([standing(100 + number) for number in range(12)])
    reader = Reader(setting.hub().subscribe(None, None, None))
    reader.until(lambda _: totals(reader) == [12])
    began = time.monotonic()
    join(setting, 40)
    reader.until(lambda _: totals(reader)[-1] == 52)
    # One at once, and one for each five seconds that it took on a slow machine.
    assert len(totals(reader)) <= 3 + (time.monotonic() - began) / 5


def test_a_new_stream_begins_with_the_present_number_and_time(setting: Setting) -> None:
    below = [standing(number) for number in range(12)]
    setting.standings.apply(below)
    hub = setting.hub()
    first = Reader(hub.subscribe(None, None, None))
    (old,) = first.until_named("leaderboard:initial")
    # Nobody is told of this: the top stays as it is.
    setting.standings.apply([standing(0), replace(below[0], version=2)])
    version = setting.standings.read(offset=0, limit=1)
    assert version is not None

    def opened() -> dict[str, Any]:
        reader = Reader(hub.subscribe(None, None, None))
        return dict(reader.until_named("leaderboard:initial")[0].json())

    new = eventually(opened, lambda board: board["totalPlayers"] == 13, WAIT_S)
    assert new["version"] == version.board.version > old.json()["version"]
