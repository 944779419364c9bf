"""What ``scoreboard.js`` promises to any page: to come back, miss nothing, lose nothing and count nothing twice.

Real browsers on the real service; between them a proxy that the tests break. The module itself is never touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from scoreboard.local import LocalServers
from scoreboard.store.tables import standing_outbox
from tests.functional import client
from tests.functional.browser import require_chromium, running_browser
from tests.functional.client import Admin, Json, Player, eventually, metric
from tests.functional.guest import WAIT_S, Guest
from tests.functional.proxy import BOARD, COMPLETE, EVERYTHING, REFRESH, STREAM, Fault, Proxy
from tests.service import Service, running_service

# A test starts a browser, and some wait out a pause of the module of up to 15 s.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

STREAMS_PER_USER = 2
# How long the module gives a stream to say its first word.
OPENING_S = 15.0


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers) -> Iterator[Service]:
    require_chromium()
    with running_service(local_servers, MAX_STREAMS_PER_USER=str(STREAMS_PER_USER)) as running:
        yield running


@pytest.fixture(scope="module")
def admin(arena: Service) -> Admin:
    return client.create_staff(arena)


@pytest.fixture
def player(arena: Service) -> Player:
    return client.register(arena.url)


@pytest.fixture
def rival(arena: Service, admin: Admin) -> Player:
    """Somebody at the top of the board, whose every point shows."""
    rival = client.register(arena.url)
    admin.adjust(rival, 1_000_000)
    return rival


@pytest.fixture
def guest(arena: Service) -> Iterator[Guest]:
    with ExitStack() as closing:
        proxy = closing.enter_context(Proxy(arena.url))
        yield Guest(closing.enter_context(running_browser()), proxy)


def open_streams(arena: Service) -> float:
    return metric(arena.url, "scoreboard_streams")


def wait_streams(arena: Service, count: int) -> None:
    eventually(lambda: open_streams(arena), lambda found: found == count, WAIT_S)


# -- coming back ---------------------------------------------------------------------------


def test_private_events_of_a_restart_arrive_once_and_in_order(
    arena: Service, admin: Admin, player: Player, guest: Guest
) -> None:
    guest.open_live(player)
    admin.adjust(player, 1)
    guest.wait_scores(1)

    # The proxy keeps the page out until everything has happened behind its back.
    with guest.proxy.broken(EVERYTHING, Fault("drop")):
        arena.stop_web()
        guest.wait(lambda: guest.read("scoreboard.state") != "live", "a sign that the connection is gone")
        arena.start_web()
        for amount in (2, 4):
            admin.adjust(player, amount)
        assert guest.scores == [1]

    guest.wait_scores(1, 3, 7)
    guest.wait_state("live")
    # Had anything been repeated, it would stand before this one.
    admin.adjust(player, 8)
    guest.wait_scores(1, 3, 7, 15)
    assert guest.told("reset") == []
    assert guest.read("scoreboard.score") == 15


def test_a_change_that_is_published_twice_is_told_once(
    arena: Service, admin: Admin, player: Player, guest: Guest
) -> None:
    guest.open_live(player)
    with player.stream() as stream:
        admin.adjust(player, 1)
        # As when the sweep meets a change whose publisher has not yet crossed it off.
        note_again(arena, player, previous_score=0, new_score=1)
        eventually(lambda: len(stream.named("score:update")), lambda count: count == 2, WAIT_S)
    admin.adjust(player, 2)
    guest.wait_scores(1, 3)


def note_again(arena: Service, player: Player, previous_score: int, new_score: int) -> None:
    """Have the service publish a change of the score once more."""
    engine = sa.create_engine(arena.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        values = {"user_id": player.id, "previous_score": previous_score, "new_score": new_score}
        connection.execute(sa.insert(standing_outbox).values(values))
    engine.dispose()


def test_a_refused_token_is_renewed_once_and_nothing_is_missed(admin: Admin, player: Player, guest: Guest) -> None:
    guest.open_live(player)
    with guest.proxy.broken(STREAM, Fault("hold")):
        guest.spoil_cookie("access_token_cookie")
        guest.proxy.cut_streams()
        guest.wait_state("connecting")
        admin.adjust(player, 5)
    guest.wait_scores(5)
    guest.wait_state("live")
    assert len(guest.proxy.seen(REFRESH)) == 1
    assert [auth["reason"] for auth in guest.told("auth")] == ["signed-in"]


def test_a_session_that_is_over_is_given_up_and_the_board_goes_on(
    admin: Admin, player: Player, rival: Player, guest: Guest
) -> None:
    guest.open_live(player)
    for name in ("access_token_cookie", "refresh_token_cookie"):
        guest.spoil_cookie(name)
    guest.proxy.cut_streams()
    guest.wait_told("auth", user=None, reason="expired")
    assert len(guest.proxy.seen(REFRESH)) == 1
    admin.adjust(rival, 1)
    guest.wait_board(rival, 1_000_001)
    guest.wait_state("live")
    assert len(guest.proxy.seen(REFRESH)) == 1


def test_too_many_streams_are_polled_for_until_the_time_that_the_service_names(
    admin: Admin, player: Player, rival: Player, guest: Guest
) -> None:
    with ExitStack() as others:
        for _ in range(STREAMS_PER_USER):
            others.enter_context(player.stream())
        guest.open(player)
        guest.wait_told("state", state="connecting", code="TOO_MANY_STREAMS")
        refused_at = guest.proxy.seen(STREAM)[-1].at
        # One before signing in, one as the player: the reason comes with the refusal.
        assert len(guest.proxy.seen(STREAM)) == 2
        (wait_ms,) = [state["retryInMs"] for state in guest.told("state") if state["code"] == "TOO_MANY_STREAMS"]
        # The service says 10 s; those told the same come spread over a quarter more.
        assert 10_000 <= wait_ms <= 12_750
        guest.wait_state("polling")
        admin.adjust(rival, 1)
        guest.wait_board(rival, 1_000_001)
        assert guest.read("scoreboard.board.source") == "poll"
    guest.wait_state("live")
    next_try = guest.proxy.seen(STREAM, since=refused_at)[1]
    assert next_try.at - refused_at >= 10
    admin.adjust(player, 1)
    guest.wait_scores(1)


def test_refused_streams_are_retried_with_jitter_then_polled_for(admin: Admin, rival: Player, guest: Guest) -> None:
    with guest.proxy.broken(STREAM, Fault("refuse", 503, retry_after_s=1)):
        guest.open()
        guest.wait(lambda: len(waits(guest, "HTTP_503")) == 3, "three refusals")
        told = waits(guest, "HTTP_503")
        guest.wait_state("polling")
        # Never before Retry-After; own waits are random parts of 2 and 4 s, then of the rhythm of blocked streams.
        assert all(1_000 <= wait_ms <= 4_000 for wait_ms in told[:2])
        assert 20_000 <= told[2] <= 40_000
        assert len(set(told)) == 3
        admin.adjust(rival, 1)
        guest.wait_board(rival, 1_000_001)
        assert guest.read("scoreboard.state") == "polling"
    # By itself it comes back as after too many streams, only later than a test wants to wait.
    guest.read("scoreboard.retry()")
    guest.wait_state("live")
    admin.adjust(rival, 1)
    guest.wait_board(rival, 1_000_002)
    assert guest.read("scoreboard.board.source") == "stream"
    versions = [board["version"] for board in guest.told("board")]
    assert versions == sorted(versions)


def waits(guest: Guest, code: str) -> list[float]:
    """How long the module said that it waits after each refusal with this code, in ms."""
    return [state["retryInMs"] for state in guest.told("state") if state["code"] == code and state["retryInMs"]]


def test_streams_that_never_speak_are_polled_for(admin: Admin, rival: Player, guest: Guest) -> None:
    with guest.proxy.broken(STREAM, Fault("hold")):
        guest.open(requestTimeoutMs=1_000, pollMs=1_000)
        guest.wait_state("polling")
        (stream,), first_poll = guest.proxy.seen(STREAM), guest.proxy.seen(BOARD)[0]
        # Long before the stream is given up.
        assert first_poll.at - stream.at < OPENING_S / 2
        admin.adjust(rival, 1)
        guest.wait_board(rival, 1_000_001)
        guest.wait(lambda: waits(guest, "TIMEOUT"), "the stream to be given up", OPENING_S + WAIT_S)
        assert 20_000 <= waits(guest, "TIMEOUT")[0] <= 40_000
    guest.read("scoreboard.retry()")
    guest.wait_state("live")


def test_a_tab_in_the_background_lets_go_of_its_stream_and_catches_up(
    arena: Service, admin: Admin, player: Player, rival: Player, guest: Guest
) -> None:
    guest.open_live(player, pauseAfterMs=200)
    wait_streams(arena, 1)
    tab = guest.page.driver.current_window_handle
    guest.page.driver.switch_to.new_window("tab")
    other = guest.page.driver.current_window_handle
    guest.watch(tab)
    guest.show(other)
    guest.wait_state("paused")
    assert guest.read("document.visibilityState") == "hidden"
    wait_streams(arena, 0)

    for amount in (1, 2):
        admin.adjust(player, amount)
    admin.adjust(rival, 1)
    assert guest.scores == []

    guest.show(tab)
    guest.wait_state("live")
    guest.wait_scores(1, 3)
    guest.wait_board(rival, 1_000_001)
    assert guest.told("reset") == []


# -- completions ---------------------------------------------------------------------------


def test_a_completion_made_offline_is_kept_over_a_reload_and_counted_once(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    action_id = guest.start()
    guest.be_offline(True)
    assert guest.finish()["status"] == "queued"
    guest.wait_state("offline")
    guest.wait_told("score", score=1, pending=1)
    assert player.history() == []

    # Back on the network, but the answer gets lost; no stream tells what came of it either.
    with guest.proxy.broken(STREAM, Fault("refuse")):
        with guest.proxy.broken(COMPLETE, Fault("lose-answer")):
            guest.be_offline(False)
            eventually(player.history, lambda items: len(items) == 1, WAIT_S)
        guest.open()
        assert guest.read("scoreboard.queued") == 1
        guest.wait_told("result", actionId=action_id, status="applied", newScore=1)
        guest.wait(lambda: guest.read("scoreboard.queued") == 0, "an empty queue")

    bodies = [seen.body for seen in guest.proxy.seen(COMPLETE)]
    assert len(bodies) >= 2
    assert len(set(bodies)) == 1
    assert [(item["actionId"], item["newScore"]) for item in player.history()] == [(action_id, 1)]
    assert player.score()["score"] == 1
    guest.wait_told("score", score=1, pending=0)
    assert [result["actionId"] for result in guest.told("result")] == [action_id]


def test_points_show_at_once_and_go_again_when_they_are_refused(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.wait_told("score", score=0, pending=0)

    guest.start("COMPLETE_LEVEL", {"difficulty": "hard"})
    outcome = finish_seeing_pending(guest, score=50, pending=50)
    assert (outcome["status"], outcome["reason"]) == ("rejected", "COMPLETION_TIME")
    guest.wait(lambda: guest.told("score")[-1]["rolledBack"], "the roll-back")
    last = guest.told("score")[-1]
    assert (last["score"], last["pending"]) == (0, 0)
    assert last["rolledBack"] == {"actionId": outcome["actionId"], "points": 50, "reason": "COMPLETION_TIME"}

    guest.start()
    assert finish_seeing_pending(guest, score=1, pending=1)["status"] == "applied"
    guest.wait(lambda: guest.told("score")[-1]["pending"] == 0, "the confirmed score")
    assert guest.told("score")[-1]["score"] == player.score()["score"]
    assert all(score["score"] in (None, 0, 1, 50) for score in guest.told("score"))


def finish_seeing_pending(guest: Guest, **pending: int) -> Json:
    """Complete the action while the proxy keeps it from the service, until the page has shown the points."""
    with guest.proxy.broken(COMPLETE, Fault("hold")):
        guest.page.driver.execute_script("window.outcome = scoreboard.finish(window.action)")
        guest.wait_told("score", **pending)
    outcome: Json = guest.page.run_async("return await window.outcome")
    return outcome


def test_a_completion_refused_for_good_is_dropped_and_rolled_back(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    action_id = guest.start("COMPLETE_LEVEL", {"difficulty": "easy"})
    guest.read("window.action.proofKey = 'another'")
    assert guest.finish() == {"error": "INVALID_ACTION_TOKEN"}
    guest.wait_told("dropped", actionId=action_id, code="INVALID_ACTION_TOKEN")
    guest.wait_told(
        "score", score=0, rolledBack={"actionId": action_id, "points": 10, "reason": "INVALID_ACTION_TOKEN"}
    )
    assert guest.read("scoreboard.queued") == 0


# -- several tabs --------------------------------------------------------------------------


def test_tabs_share_one_stream_and_hand_it_over(arena: Service, admin: Admin, player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.open_tab()
    guest.open_tab()
    leader, *followers = guest.page.driver.window_handles
    wait_streams(arena, 1)

    def all_have(tabs: list[str], *scores: int) -> None:
        for tab in tabs:
            guest.watch(tab)
            guest.wait_scores(*scores)
            guest.wait_state("live")
            assert guest.told("reset") == []

    admin.adjust(player, 1)
    all_have([leader, *followers], 1)
    assert guest.read("scoreboard.board.source") == "tab"
    assert open_streams(arena) == 1

    guest.watch(leader)
    guest.page.driver.close()
    admin.adjust(player, 2)
    all_have(followers, 1, 3)
    admin.adjust(player, 4)
    all_have(followers, 1, 3, 7)
    wait_streams(arena, 1)


def test_the_tab_in_front_takes_the_stream_over_from_one_that_pauses(
    arena: Service, admin: Admin, player: Player, guest: Guest
) -> None:
    guest.open_live(player, pauseAfterMs=200)
    guest.open_tab(pauseAfterMs=200)
    behind = guest.page.driver.window_handles[0]
    # Only the front tab can have the stream once the other has let go of it.
    guest.wait(lambda: guest.read("scoreboard.board.source") == "stream", "a stream of its own")
    admin.adjust(player, 1)
    guest.wait_scores(1)
    wait_streams(arena, 1)

    guest.watch(behind)
    guest.wait_state("live")
    # The other tab had the events meanwhile: this one is told to read again what it keeps.
    guest.wait_told("reset", reason="paused")
    admin.adjust(player, 2)
    guest.wait_scores(3)
    wait_streams(arena, 1)
