"""The live stream, as an EventSource sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import pytest

from scoreboard.local import LocalServers
from tests.functional.client import (
    Admin,
    Api,
    Player,
    board,
    create_staff,
    data_of,
    eventually,
    in_parallel,
    metric,
    new_name,
    open_stream,
    register,
)
from tests.functional.sse import SseClient, SseEvent, SseRefused
from tests.service import Service, running_service

BOARD_EVENTS = ("leaderboard:initial", "leaderboard:update")
PRIVATE_EVENTS = ("score:update", "rank:change", "action:result")
INTERVAL_S = 1.0
# Time for an event to come on a busy machine.
SOON_S = 5.0
ENDED_WITHIN_S = 5.0


@dataclass
class Game:
    """A service whose board has twelve players with 1200, 1100, … 100 points, for this module alone."""

    service: Service
    admin: Admin
    players: list[Player]

    @property
    def url(self) -> str:
        return self.service.url

    def watch(self) -> SseClient:
        return open_stream(self.url)


@pytest.fixture(scope="module")
def game(local_servers: LocalServers) -> Iterator[Game]:
    settings = {"HEARTBEAT_S": "0.5", "BROADCAST_INTERVAL_MS": "1000", "MAX_STREAMS_PER_USER": "2"}
    with running_service(local_servers, **settings) as service:
        admin = create_staff(service)
        players = [register(service.url) for _ in range(12)]
        for place, player in enumerate(players):
            admin.adjust(player, 1200 - 100 * place)
        yield Game(service, admin, players)


@pytest.fixture
def player(game: Game) -> Player:
    """A player at the end of the board, of the test's own."""
    return register(game.url)


def wait_for_board(stream: SseClient, player: Player, score: int) -> SseEvent:
    return stream.wait_for(
        lambda event: (
            event.event in BOARD_EVENTS
            and any((row["userId"], row["score"]) == (player.id, score) for row in event.json()["leaderboard"])
        ),
        SOON_S,
    )


def score_of(player: Player) -> int:
    score = player.score()["score"]
    assert isinstance(score, int)
    return score


# -- opening ---------------------------------------------------------------------------


def test_the_board_comes_at_once(game: Game) -> None:
    started = time.monotonic()
    with game.watch() as stream:
        first = stream.wait_for(lambda _: True)
        assert first.at - started < 1
        assert first.event == "leaderboard:initial"
        assert first.id, "an event that carries state has an id"
        data = first.json()
        assert {"leaderboard", "version", "updatedAt"} <= set(data)
        assert "updatedUser" not in data
        assert "success" not in data, "events are bare objects"
        assert data["leaderboard"] == board(Api(game.url), 10)
        assert stream.retry_ms is not None
        assert 100 <= stream.retry_ms <= 60_000
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert "no-cache" in stream.response.headers["Cache-Control"]
        assert stream.response.headers["X-Request-ID"]


def test_heartbeats_carry_the_version_and_no_id(game: Game) -> None:
    with game.watch() as stream:
        eventually(lambda: len(stream.named("heartbeat")), lambda count: count >= 3, SOON_S)
        initial = stream.named("leaderboard:initial")[0]
        for heartbeat in stream.named("heartbeat"):
            assert heartbeat.id is None
            assert heartbeat.json() == {"version": initial.json()["version"]}
        assert stream.last_event_id == initial.id, "a heartbeat does not move a client's place"


def test_a_bad_token_does_not_open_the_stream(game: Game) -> None:
    for options in ({"token": "garbage"}, {"params": {"ticket": "garbage"}}, {"params": {"ticket": ""}}):
        with pytest.raises(SseRefused) as refused:
            open_stream(game.url, **options)
        assert refused.value.status == 401
        assert '"INVALID_TOKEN"' in refused.value.body


# -- the board -------------------------------------------------------------------------


def test_a_change_of_the_top_reaches_every_watcher(game: Game, player: Player) -> None:
    mover = game.players[5]
    before = score_of(mover)
    with game.watch() as anonymous, game.watch() as second, player.stream() as signed_in:
        streams = (anonymous, second, signed_in)
        for stream in streams:
            stream.wait_for("leaderboard:initial")
        game.admin.adjust(mover, 150)
        updates = [wait_for_board(stream, mover, before + 150) for stream in streams]
        data, *others = [update.json() for update in updates]
        # A process that served a board without Redis before raises the version, a time, once: it may differ between
        # processes.
        same_time = {"version": data["version"], "updatedAt": data["updatedAt"]}
        assert [watched | same_time for watched in others] == [data, data]
        assert updates[0].event == "leaderboard:update"
        assert updates[0].id
        assert data["updatedUser"] == {"userId": mover.id, "oldRank": 6, "newRank": 5, "scoreChange": 150}
        assert data["leaderboard"] == board(Api(game.url), 10)
        game.admin.adjust(mover, -150)
        wait_for_board(anonymous, mover, before)


def test_an_action_of_a_leading_player_says_who_moved_the_board(game: Game) -> None:
    third = game.players[2]
    with game.watch() as stream:
        stream.wait_for("leaderboard:initial")
        third.score_point()
        update = stream.wait_for("leaderboard:update", SOON_S).json()
        assert update["updatedUser"] == {"userId": third.id, "oldRank": 3, "newRank": 3, "scoreChange": 1}
        assert update["leaderboard"][2]["score"] == 1001
    game.admin.adjust(third, -1)


def test_a_change_below_the_top_is_nobodys_news(game: Game, player: Player) -> None:
    with game.watch() as stream:
        stream.wait_for("leaderboard:initial")
        # What the test before changed may still be on its way.
        time.sleep(INTERVAL_S + 0.2)
        before = stream.named("leaderboard:update")
        assert player.score_point()["rank"] > 10
        time.sleep(INTERVAL_S + 0.5)
        assert stream.named("leaderboard:update") == before


def test_a_burst_goes_out_first_at_once_last_always_and_few_between(game: Game) -> None:
    leader = game.players[0]
    before, changes = score_of(leader), 25
    with game.watch() as stream:
        initial = stream.wait_for("leaderboard:initial")
        # What others changed before is told by then, however late.
        game.admin.adjust(leader, 1)
        wait_for_board(stream, leader, before + 1)
        time.sleep(INTERVAL_S + 0.2)
        told = len(stream.named("leaderboard:update"))
        started = time.monotonic()
        for _ in range(changes):
            game.admin.adjust(leader, 1)
        lasted = time.monotonic() - started
        wait_for_board(stream, leader, before + 1 + changes)
        time.sleep(INTERVAL_S + 0.2)
        updates = stream.named("leaderboard:update")[told:]
        assert updates[0].at - started < INTERVAL_S * 0.9, "the first goes out immediately"
        assert len(updates) <= lasted / INTERVAL_S + 2, "then at most one per interval"
        # Ids of processes that publish apart may bring two events of one change close together.
        assert all(later.at - earlier.at > INTERVAL_S * 0.8 for earlier, later in pairwise(updates))
        last = updates[-1].json()
        assert last["leaderboard"][0]["score"] == before + 1 + changes, "the last one always"
        versions = [event.json()["version"] for event in stream.named(*BOARD_EVENTS, "heartbeat")]
        assert versions == sorted(versions), "a version only grows"
        assert len({event.id for event in (initial, *updates)}) == len(updates) + 1
        game.admin.adjust(leader, -changes - 1)


def test_a_name_of_any_script_leaves_the_frames_whole(game: Game) -> None:
    names = ["אבג 🦊 דהו", "data: x", "event: reset", "\\n\\nevent: reset", "مرحبا بالعالم"]
    with game.watch() as stream:
        stream.wait_for("leaderboard:initial")
        players = [register(game.url, username=name) for name in names]
        for player in players:
            game.admin.adjust(player, 5_000)
        last = wait_for_board(stream, players[-1], 5_000)
        shown = {row["username"] for row in last.json()["leaderboard"]}
        assert set(names) <= shown
        assert {event.event for event in stream.events} <= {*BOARD_EVENTS, "heartbeat"}
        for player in players:
            game.admin.act(player.id, "ban")
        eventually(lambda: board(Api(game.url), 10)[0]["userId"], lambda first: first == game.players[0].id)


# -- what concerns the signed-in player ------------------------------------------------


def test_a_player_is_told_of_their_own_actions_and_nobody_else(game: Game, player: Player) -> None:
    other = register(game.url)
    with player.stream() as own, other.stream() as others, game.watch() as anonymous:
        for stream in (own, others, anonymous):
            stream.wait_for("leaderboard:initial")
        outcome = player.score_point()
        result = own.wait_for("action:result", SOON_S)
        assert result.id
        expected = {name: outcome[name] for name in ("status", "reason", "scoreIncrement", "newScore", "rank")}
        assert result.json() == {"actionId": outcome["actionId"], **expected}
        update = own.wait_for("score:update", SOON_S)
        assert update.id
        assert update.json() == {
            "userId": player.id,
            "oldScore": 0,
            "newScore": 1,
            "increment": 1,
            "newRank": outcome["rank"],
        }
        time.sleep(0.5)
        for stream in (others, anonymous):
            assert stream.named("score:update", "action:result") == []
        assert all(event.json()["userId"] == other.id for event in others.named("rank:change"))


def test_a_player_is_told_of_an_adjustment(game: Game, player: Player) -> None:
    with player.stream() as stream:
        stream.wait_for("leaderboard:initial")
        game.admin.adjust(player, 3)
        update = stream.wait_for("score:update", SOON_S).json()
        rank = player.score()["rank"]
        assert update == {"userId": player.id, "oldScore": 0, "newScore": 3, "increment": 3, "newRank": rank}


def test_an_action_that_is_rejected_is_told_without_points(game: Game, player: Player) -> None:
    with player.stream() as stream:
        stream.wait_for("leaderboard:initial")
        action = player.request_action()
        data_of(player.complete(action, time_ms=60_000))
        result = stream.wait_for("action:result", SOON_S).json()
        assert (result["status"], result["reason"]) == ("rejected", "CLOCK_MISMATCH")
        assert (result["scoreIncrement"], result["newScore"]) == (None, None)
        time.sleep(0.3)
        assert stream.named("score:update", "rank:change") == []


def test_entering_and_leaving_the_top_ten_is_told(game: Game, player: Player) -> None:
    tenth = game.players[9]
    assert tenth.score()["rank"] == 10
    with player.stream() as stream, tenth.stream() as displaced:
        stream.wait_for("leaderboard:initial")
        displaced.wait_for("leaderboard:initial")
        old_rank = player.score()["rank"]
        game.admin.adjust(player, score_of(tenth) + 1)
        entered = stream.wait_for("rank:change", SOON_S)
        assert entered.id
        assert entered.json() == {
            "userId": player.id,
            "oldRank": old_rank,
            "newRank": 10,
            "enteredTop10": True,
            "leftTop10": False,
        }
        pushed_out = displaced.wait_for("rank:change", SOON_S).json()
        assert pushed_out == {
            "userId": tenth.id,
            "oldRank": 10,
            "newRank": 11,
            "enteredTop10": False,
            "leftTop10": True,
        }
        game.admin.adjust(player, -score_of(player))
        left = stream.wait_for(lambda event: event.event == "rank:change" and event != entered, SOON_S).json()
        assert (left["oldRank"], left["enteredTop10"], left["leftTop10"]) == (10, False, True)
        back = displaced.wait_for(lambda event: event.event == "rank:change" and event.json()["enteredTop10"], SOON_S)
        assert back.json()["newRank"] == 10


# -- coming back -----------------------------------------------------------------------


def miss_three_changes(game: Game, player: Player) -> str:
    """The id of the last event that the player saw before three changes."""
    with player.stream() as stream:
        stream.wait_for("leaderboard:initial")
        game.admin.adjust(player, 1)
        stream.wait_for("score:update", SOON_S)
        time.sleep(0.3)
        seen = stream.last_event_id
    for _ in range(3):
        game.admin.adjust(player, 1)
    return seen


def assert_missed_events_came_once(stream: SseClient) -> None:
    initial = stream.wait_for("leaderboard:initial")
    time.sleep(0.5)
    assert stream.named("reset") == []
    scores = [event.json()["newScore"] for event in stream.named("score:update")]
    assert scores == [2, 3, 4], "what was missed, in order and once"
    assert stream.events.index(initial) > max(stream.events.index(event) for event in stream.named("score:update"))
    assert len(stream.named("leaderboard:initial")) == 1


def test_a_client_that_comes_back_gets_what_it_missed(game: Game, player: Player) -> None:
    seen = miss_three_changes(game, player)
    with player.stream(last_event_id=seen) as by_header:
        assert_missed_events_came_once(by_header)
        last = by_header.last_event_id
    with player.stream(params={"lastEventId": seen}) as by_query:
        assert_missed_events_came_once(by_query)
    time.sleep(0.3)
    with player.stream(last_event_id=last) as again:
        again.wait_for("leaderboard:initial")
        time.sleep(0.5)
        assert again.named(*PRIVATE_EVENTS, "reset") == [], "nothing was missed since"


def test_the_header_wins_over_the_query(game: Game, player: Player) -> None:
    seen = miss_three_changes(game, player)
    with player.stream(last_event_id=seen, params={"lastEventId": "long-gone"}) as stream:
        assert_missed_events_came_once(stream)


def test_missed_events_are_not_for_others(game: Game, player: Player) -> None:
    seen = miss_three_changes(game, player)
    other = register(game.url)
    for stream in (other.stream(last_event_id=seen), open_stream(game.url, last_event_id=seen)):
        with stream:
            stream.wait_for("leaderboard:initial")
            time.sleep(0.5)
            assert stream.named("score:update", "action:result") == []


@pytest.mark.parametrize("last_id", ["unknown", "0:0", "1-1", "1:1", "99999999999999999:1", "-1", "x" * 100])
def test_an_id_that_is_gone_brings_reset_and_the_whole_board(game: Game, player: Player, last_id: str) -> None:
    with player.stream(last_event_id=last_id) as stream:
        initial = stream.wait_for("leaderboard:initial")
        (reset,) = stream.named("reset")
        assert stream.events.index(reset) < stream.events.index(initial)
        assert initial.json()["leaderboard"] == board(Api(game.url), 10)


ODD_IDS = {
    "long": {"query": "lastEventId=" + "x" * 2_000},
    "long number": {"query": "lastEventId=" + "9" * 2_000 + ":1"},
    "controls": {"query": "lastEventId=" + "%00%0d%0a%1b%7f" * 400},
    "no UTF-8": {"query": "lastEventId=%ff%fe%c3"},
    "a lone surrogate": {"query": "lastEventId=%ed%a0%80"},
    "other digits": {"query": "lastEventId=%d9%a1:%d9%a2"},
    "two that differ": {"query": "lastEventId=1:1&lastEventId=1:2"},
    "long header": {"header": "x" * 2_000},
    "header of two": {"header": "1:1, 1:2"},
    "header of other bytes": {"header": "\u00ff\u0080"},
    "both": {"header": "x", "query": "lastEventId=y"},
}


def open_oddly(game: Game, player: Player, *, query: str = "", header: str | None = None) -> SseClient:
    """The stream of this address, as it is written; the header likewise."""
    headers = {"Authorization": f"Bearer {player.access_token}"}
    if header is not None:
        headers["Last-Event-ID"] = header.encode("latin-1")  # type: ignore[assignment]  # httpx takes bytes as well
    return SseClient(f"{game.url}/v1/leaderboard/stream?{query}", headers=headers)


@pytest.mark.parametrize("kind", ODD_IDS)
def test_no_id_is_refused_whatever_it_is(game: Game, player: Player, kind: str) -> None:
    with open_oddly(game, player, **ODD_IDS[kind]) as stream:
        initial = stream.wait_for("leaderboard:initial")
        (reset,) = stream.named("reset")
        assert stream.events.index(reset) < stream.events.index(initial)


@pytest.mark.parametrize("query", ["", "lastEventId=", "lastEventId=&lastEventId=", "surprise=1&surprise=2"])
def test_a_harmless_query_brings_a_stream_as_none_does(game: Game, player: Player, query: str) -> None:
    with open_oddly(game, player, query=query) as stream:
        stream.wait_for("leaderboard:initial")
        assert stream.named("reset") == []
        game.admin.adjust(player, 1)
        stream.wait_for("score:update", SOON_S)


def test_the_same_id_twice_is_that_id(game: Game, player: Player) -> None:
    seen = miss_three_changes(game, player)
    with open_oddly(game, player, query=f"lastEventId={seen}&lastEventId={seen}") as stream:
        assert_missed_events_came_once(stream)
    with open_oddly(game, player, header=f"{seen}, {seen}") as stream:
        assert_missed_events_came_once(stream)


# -- tickets, caps and ends ------------------------------------------------------------


def test_a_ticket_opens_the_stream_as_its_player(game: Game, player: Player) -> None:
    ticket = data_of(player.api.post("/v1/stream/ticket"))
    assert 1 <= ticket["expiresIn"] <= 600
    for _ in range(2):
        # A browser reconnects with the same address, so a ticket works for its whole short life.
        with open_stream(game.url, params={"ticket": ticket["ticket"]}) as stream:
            stream.wait_for("leaderboard:initial")
            outcome = player.score_point()
            assert stream.wait_for("action:result", SOON_S).json()["actionId"] == outcome["actionId"]


def test_streams_of_one_player_are_capped(game: Game, player: Player) -> None:
    with ExitStack() as open_ones:
        for _ in range(2):
            open_ones.enter_context(player.stream()).wait_for("leaderboard:initial")
        with pytest.raises(SseRefused) as refused:
            player.stream()
        assert refused.value.status == 429
        assert '"TOO_MANY_STREAMS"' in refused.value.body
        assert int(refused.value.headers["Retry-After"]) >= 1
        with register(game.url).stream() as others:
            others.wait_for("leaderboard:initial")

    def opens() -> bool:
        try:
            player.stream().close()
        except SseRefused:
            return False
        return True

    eventually(opens, bool, SOON_S)


def test_a_cap_holds_against_streams_opened_at_once(game: Game, player: Player) -> None:
    with ExitStack() as open_ones:

        def opens() -> bool:
            try:
                open_ones.enter_context(player.stream())
            except SseRefused:
                return False
            return True

        assert sorted(in_parallel([opens] * 8)) == [False] * 6 + [True] * 2


@pytest.mark.parametrize("how", ["logout", "ban"])
def test_streams_end_when_their_player_has_to_go(game: Game, player: Player, how: str) -> None:
    ticket = data_of(player.api.post("/v1/stream/ticket"))["ticket"]
    with player.stream() as own, open_stream(game.url, params={"ticket": ticket}) as by_ticket, game.watch() as watcher:
        for stream in (own, by_ticket, watcher):
            stream.wait_for("leaderboard:initial")
        if how == "ban":
            game.admin.act(player.id, "ban")
        else:
            data_of(player.api.post("/v1/auth/logout"))
        own.wait_ended(ENDED_WITHIN_S)
        by_ticket.wait_ended(ENDED_WITHIN_S)
        assert not watcher.is_ended
    with pytest.raises(SseRefused) as refused:
        open_stream(game.url, params={"ticket": ticket})
    assert refused.value.status in (401, 403)


def test_a_banned_player_leaves_the_board_that_everybody_sees(game: Game, player: Player) -> None:
    game.admin.adjust(player, 9_000)
    with game.watch() as stream:
        wait_for_board(stream, player, 9_000)
        game.admin.act(player.id, "ban")
        gone = stream.wait_for(
            lambda event: (
                event.event in BOARD_EVENTS and all(row["userId"] != player.id for row in event.json()["leaderboard"])
            ),
            SOON_S,
        )
        assert [row["rank"] for row in gone.json()["leaderboard"]] == list(range(1, 11))


def test_open_streams_hold_no_database_connection(game: Game) -> None:
    players = [register(game.url, username=new_name("watcher")) for _ in range(5)]
    with ExitStack() as open_ones:
        streams = [open_ones.enter_context(game.watch()) for _ in range(20)]
        streams += [open_ones.enter_context(each.stream()) for each in players for _ in range(2)]
        for stream in streams:
            stream.wait_for("heartbeat")
        assert metric(game.url, "scoreboard_streams") >= len(streams)
        # Looking after sessions and the board borrows one for moments; a stream that held one would never let it go.
        for _ in range(10):
            eventually(lambda: metric(game.url, "scoreboard_database_connections"), lambda count: count == 0, SOON_S)
        game.admin.adjust(game.players[0], 7)
        for stream in streams:
            stream.wait_for("leaderboard:update", SOON_S)
    eventually(lambda: metric(game.url, "scoreboard_streams"), lambda count: count == 0, SOON_S)


def test_the_books_are_right(game: Game) -> None:
    done = game.service.run("verify")
    assert done.returncode == 0, done.stdout + done.stderr
