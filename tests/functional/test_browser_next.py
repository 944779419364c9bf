"""``scoreboard.js`` and the next action, which comes with the answer to a completion: one call for each round.

Real browsers on the real service; between them a proxy that counts the calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scoreboard.local import LocalServers
from tests.conftest import StartService
from tests.functional import client
from tests.functional.browser import Page, require_chromium, running_browser
from tests.functional.client import Json, Player, eventually
from tests.functional.guest import WAIT_S, Guest
from tests.functional.proxy import COMPLETE, REQUEST, STREAM, Fault, Proxy
from tests.functional.test_browser_clocks import HOUR_MS, SETTABLE_CLOCK
from tests.functional.test_browser_denials import DENIALS
from tests.service import Service, running_service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

LEVEL, EASY, HARD = "COMPLETE_LEVEL", {"difficulty": "easy"}, {"difficulty": "hard"}
# One round at a time, or one and one that waits.
ONE_OPEN, TWO_OPEN = {"MAX_OPEN_ACTIONS": "1"}, {"MAX_OPEN_ACTIONS": "2"}
FINISH_AND_START = """
const finished = scoreboard.finish(window.action, { next: true });
window.begun = scoreboard.start(...given).then((action) => { window.action = action; return action.actionId; });
window.finished = finished.catch((error) => ({ error: error.code }));
"""
TAP_ALL = """
const cells = [...document.querySelectorAll("#grid [data-number]")];
for (const cell of cells.sort((one, other) => one.dataset.number - other.dataset.number)) cell.click();
"""


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers) -> Iterator[Service]:
    require_chromium()
    with running_service(local_servers) as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    require_chromium()
    with running_browser() as page:
        yield page


@pytest.fixture
def player(arena: Service) -> Player:
    return client.register(arena.url)


@pytest.fixture
def guest(arena: Service, page: Page) -> Iterator[Guest]:
    with guest_of(arena, page) as guest:
        yield guest


@contextmanager
def guest_of(service: Service, page: Page, script: str = "") -> Iterator[Guest]:
    """A page in this browser; ``script`` runs before those of each page. Afterwards the browser is as before."""
    page.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    key = page.inject(SETTABLE_CLOCK.replace("START", "0") + script)
    with Proxy(service.url) as proxy:
        guest = Guest(page, proxy)
        try:
            yield guest
        finally:
            guest.be_offline(False)
            page.withdraw(key)
            page.driver.get("about:blank")


def calls(guest: Guest) -> tuple[int, int]:
    """How many requests and completions the page has made."""
    return len(guest.proxy.seen(REQUEST)), len(guest.proxy.seen(COMPLETE))


def bodies(guest: Guest) -> list[Json]:
    return [json.loads(seen.body) for seen in guest.proxy.seen(COMPLETE)]


def applied(outcome: Json) -> bool:
    return bool(outcome.get("status") == "applied")


# -- one call for each round ---------------------------------------------------------------


def test_round_after_round_is_one_call_each(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    begun = []
    for _ in range(3):
        begun.append(guest.start())
        outcome = guest.finish(next=True)
        assert applied(outcome)
        assert outcome["next"]["actionToken"]
    assert len(set(begun)) == 3
    assert calls(guest) == (1, 3)
    assert [item["actionId"] for item in reversed(player.history())] == begun
    guest.wait_told("score", score=3, pending=0)
    # What other parts of a page hear of an outcome does not hand them the action.
    assert all("next" not in result for result in guest.told("result"))


def test_the_next_round_may_be_of_another_kind(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    outcome = guest.finish(next={"actionType": LEVEL, "metadata": HARD})
    assert outcome["next"]["maxPoints"] == 50
    # Not the round that was asked for: it goes on waiting for its own.
    guest.start(LEVEL, EASY)
    assert calls(guest) == (2, 1)
    assert guest.start(LEVEL, HARD) == outcome["next"]["actionId"]
    assert guest.read("window.action.waitedMs") > 0
    assert guest.read("window.action.maxPoints") == 50
    assert calls(guest) == (2, 1)


def test_a_round_begun_before_the_answer_is_there_waits_for_it(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    with guest.proxy.broken(COMPLETE, Fault("hold")):
        guest.page.driver.execute_script(FINISH_AND_START.replace("...given", "'SOLVE_PROBLEM'"))
        guest.wait(lambda: guest.proxy.seen(COMPLETE), "the completion")
    outcome = guest.page.run_async("return await window.finished")
    assert guest.page.run_async("return await window.begun") == outcome["next"]["actionId"]
    assert applied(guest.finish())
    assert calls(guest) == (1, 2)


def test_a_round_does_not_wait_long_for_an_answer(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    with guest.proxy.broken(COMPLETE, Fault("hold")):
        guest.page.driver.execute_script(FINISH_AND_START.replace("...given", "'SOLVE_PROBLEM'"))
        assert guest.page.run_async("return await window.begun")
        assert calls(guest) == (2, 1)
    # It came after all, and waits for the round after this one.
    outcome = guest.page.run_async("return await window.finished")
    assert applied(guest.finish())
    assert guest.start() == outcome["next"]["actionId"]
    assert calls(guest) == (2, 2)


def test_tabs_play_each_their_own(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.open_tab()
    tabs = guest.page.driver.window_handles
    try:
        begun = []
        for _ in range(2):
            for tab in tabs:
                guest.watch(tab)
                begun.append(guest.start())
                # The service takes one completion a second from a player: the other tab's may have been the one.
                guest.finish(next=True)
                guest.wait_told("result", actionId=begun[-1], status="applied")
        assert len(set(begun)) == 4
        assert calls(guest)[0] == 2
        assert player.score()["score"] == 4
    finally:
        guest.watch(tabs[1])
        guest.page.driver.close()
        guest.watch(tabs[0])


# -- time ----------------------------------------------------------------------------------


def test_an_action_too_old_for_a_round_is_replaced_without_a_word(start_service: StartService, page: Page) -> None:
    service = start_service(ACTION_TOKEN_TTL_S="6")
    player = client.register(service.url)
    with guest_of(service, page) as guest:
        guest.open_live(player)
        guest.start()
        waiting = guest.finish(next=True)["next"]["actionId"]
        arrived_at = guest.read("performance.now()")
        # Half of its life.
        guest.wait(lambda: guest.read("performance.now()") > arrived_at + 3_100, "the end of its use")
        assert guest.start() != waiting
        assert calls(guest) == (2, 1)
        assert applied(guest.finish())


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, HOUR_MS])
def test_a_clock_that_was_set_costs_a_call_at_most(player: Player, guest: Guest, shift_ms: int) -> None:
    guest.open_live(player)
    guest.start()
    guest.finish(next=True)
    guest.read(f"setClock({shift_ms})")
    guest.start()
    # An hour ahead is what a device shows as well that has slept for an hour.
    assert calls(guest) == ((2, 1) if shift_ms > 0 else (1, 1))
    assert applied(guest.finish(next=True))
    guest.start()
    assert applied(guest.finish(next=True))
    assert calls(guest) == ((2, 3) if shift_ms > 0 else (1, 3))


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, HOUR_MS])
def test_a_wrong_clock_costs_nothing(arena: Service, player: Player, page: Page, shift_ms: int) -> None:
    with guest_of(arena, page, f"setClock({shift_ms});") as guest:
        guest.open_live(player)
        for _ in range(2):
            guest.start()
            assert applied(guest.finish(next=True))
        guest.open()
        guest.start()
        assert calls(guest) == (1, 2)


def test_what_nobody_plays_is_asked_for_twice_at_most(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    for _ in range(3):
        guest.start(maxWaitedMs=0)
        assert applied(guest.finish(next=True))
    assert ["next" in body for body in bodies(guest)] == [True, True, False]
    # The newest first.
    guest.start()
    assert calls(guest) == (3, 3)
    assert applied(guest.finish(next=True))
    assert "next" in bodies(guest)[-1]


def test_what_was_passed_over_is_played_where_no_new_one_is_to_be_had(start_service: StartService, page: Page) -> None:
    service = start_service(**TWO_OPEN)
    player = client.register(service.url)
    with guest_of(service, page) as guest:
        guest.open_live(player)
        guest.start()
        waiting = guest.finish(next=True)["next"]["actionId"]
        player.request_action()
        assert guest.start(maxWaitedMs=0) == waiting
        assert calls(guest) == (2, 1)
        assert applied(guest.finish())
        player.request_action()
        refused = guest.page.run_async("return await scoreboard.start('SOLVE_PROBLEM')")
        assert refused == {"error": "TOO_MANY_OPEN_ACTIONS"}


# -- refusals ------------------------------------------------------------------------------


def test_a_refused_next_harms_nothing_and_is_told_when_a_round_begins(start_service: StartService, page: Page) -> None:
    service = start_service(RATE_LIMIT_REQUEST="1/minute")
    player = client.register(service.url)
    with guest_of(service, page) as guest:
        guest.open_live(player)
        guest.start()
        outcome = guest.finish(next=True)
        assert applied(outcome)
        refusal = outcome["next"]
        assert (refusal["status"], refusal["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert 0 < refusal["retryAfterMs"] <= 60_000
        again = guest.page.run_async(
            "return await scoreboard.start('SOLVE_PROBLEM').catch(({ code, retryAfterMs }) => [code, retryAfterMs])"
        )
        assert again[0] == "RATE_LIMIT_EXCEEDED"
        assert 0 < again[1] < refusal["retryAfterMs"]
        # A request would meet the same.
        assert calls(guest) == (1, 1)
        assert guest.told("dropped") == []


def test_a_next_that_makes_no_sense_is_refused_alone(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    outcome = guest.finish(next={"actionType": LEVEL, "metadata": {"difficulty": "absurd"}})
    assert applied(outcome)
    assert (outcome["next"]["status"], outcome["next"]["code"]) == (400, "VALIDATION_FAILED")
    guest.start()
    assert applied(guest.finish(next=True))


def test_a_rejected_round_is_followed_by_one_as_well(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start(LEVEL, EASY)
    outcome = guest.finish(next={"actionType": client.QUICK})
    assert (outcome["status"], outcome["reason"]) == ("rejected", "COMPLETION_TIME")
    assert guest.start() == outcome["next"]["actionId"]
    assert applied(guest.finish())
    assert calls(guest) == (1, 2)


def test_a_refused_completion_brings_none(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    guest.read("window.action.proofKey = 'another'")
    assert guest.finish(next=True) == {"error": "INVALID_ACTION_TOKEN"}
    guest.start()
    assert calls(guest) == (2, 1)


@pytest.mark.parametrize("kind", ["refuse-next", "ignore-next"])
def test_an_older_service_is_asked_as_before(player: Player, guest: Guest, kind: str) -> None:
    guest.open_live(player)
    with guest.proxy.broken(COMPLETE, Fault(kind)):  # type: ignore[arg-type]
        for _ in range(2):
            guest.start()
            outcome = guest.finish(next=True)
            assert applied(outcome)
            assert "next" not in outcome
    asked = ["next" in body for body in bodies(guest)]
    # Once refused, the page remembers it, as one of several web processes may still be an older one.
    assert asked == ([True, False, False] if kind == "refuse-next" else [True, True])
    assert calls(guest)[0] == 2
    assert guest.told("dropped") == []
    assert player.score()["score"] == 2


# -- bad roads -----------------------------------------------------------------------------


def test_a_completion_made_offline_brings_one_if_no_round_was_begun_meanwhile(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    guest.be_offline(True)
    assert guest.finish(next=True)["status"] == "queued"
    kept = guest.read("Object.entries(localStorage).find(([key]) => key.startsWith('scoreboard:completion:'))[1]")
    assert "next" not in json.loads(kept)["body"]
    guest.be_offline(False)
    guest.wait_told("result", status="applied")
    guest.start()
    assert calls(guest)[0] == 1

    guest.be_offline(True)
    assert guest.finish(next=True)["status"] == "queued"
    assert guest.page.run_async("return await scoreboard.start('SOLVE_PROBLEM')") == {"error": "NETWORK"}
    guest.be_offline(False)
    guest.wait(lambda: len(guest.told("result")) == 2, "the second outcome")
    assert "next" not in bodies(guest)[-1]


def test_a_completion_kept_over_a_reload_brings_none(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    with guest.proxy.broken(COMPLETE, Fault("refuse")):
        assert guest.finish(next=True)["status"] == "queued"
        guest.open()
    guest.wait_told("result", status="applied")
    assert "next" not in bodies(guest)[-1]
    guest.start()
    assert calls(guest)[0] == 2


def test_a_lost_answer_is_repeated_and_brings_the_same_action(start_service: StartService, page: Page) -> None:
    # With one open action at a time a second one would be refused.
    service = start_service(**ONE_OPEN)
    player = client.register(service.url)
    with guest_of(service, page) as guest:
        guest.open_live(player)
        guest.start()
        with guest.proxy.broken(STREAM, Fault("refuse")):
            guest.proxy.cut_streams()
            with guest.proxy.broken(COMPLETE, Fault("lose-answer")):
                assert guest.finish(next=True)["status"] == "queued"
                eventually(player.history, lambda items: len(items) == 1, WAIT_S)
            guest.wait_told("result", status="applied")
        sent = [seen.body for seen in guest.proxy.seen(COMPLETE)]
        assert len(sent) >= 2
        assert len(set(sent)) == 1
        guest.start()
        assert calls(guest)[0] == 1
        assert applied(guest.finish())


# -- from page to page ---------------------------------------------------------------------


def test_a_reload_takes_it_along_and_a_copy_of_the_tab_does_not(player: Player, guest: Guest) -> None:
    guest.open_live(player)
    guest.start()
    waiting = guest.finish(next=True)["next"]["actionId"]
    assert guest.read("Object.keys(sessionStorage).filter((key) => key.startsWith('scoreboard:next:'))") == []
    guest.open()
    assert guest.start() == waiting
    assert guest.read("window.action.waitedMs") > 0
    assert applied(guest.finish())
    assert calls(guest) == (1, 2)
    guest.open()
    guest.start()
    assert calls(guest) == (2, 2)


def test_another_player_gets_none_of_it(arena: Service, player: Player, guest: Guest) -> None:
    other = client.register(arena.url)
    guest.open_live(player)
    guest.start()
    guest.finish(next=True)
    guest.open(other)
    guest.start()
    assert calls(guest) == (2, 1)
    assert applied(guest.finish(next=True))
    guest.page.run_async("await scoreboard.logout()")
    guest.page.run_async("await scoreboard.login(given[0])", {"username": player.username, "password": player.password})
    guest.start()
    assert calls(guest) == (3, 2)
    assert applied(guest.finish())


@pytest.mark.parametrize("denial", ["storage throws", "storage null", "storage full", "storage forgets"])
def test_without_storage_only_a_reload_costs_a_call(arena: Service, player: Player, page: Page, denial: str) -> None:
    with guest_of(arena, page, DENIALS[denial]) as guest:
        guest.open_live(player)
        for _ in range(2):
            guest.start()
            assert applied(guest.finish(next=True))
        assert calls(guest) == (1, 2)
        guest.open(player)
        guest.start()
        assert calls(guest) == (2, 2)
        assert applied(guest.finish())


def test_a_private_window_plays_alike(arena: Service, player: Player) -> None:
    with running_browser(flags=["--incognito"]) as private, guest_of(arena, private) as guest:
        guest.open_live(player)
        guest.start()
        assert applied(guest.finish(next=True))
        guest.open()
        guest.start()
        assert applied(guest.finish(next=True))
        assert calls(guest) == (1, 2)


# -- the page's game -----------------------------------------------------------------------


def play(page: Page, headline: str = "+20") -> None:
    """A round as quick as a hand can be; the page then says this."""
    page.deal("medium")
    page.wait_human_time("medium")
    page.driver.execute_script(TAP_ALL)
    page.wait_text("outcome-headline", headline)


def test_the_game_makes_one_call_for_each_round(arena: Service, player: Player, guest: Guest) -> None:
    page = guest.page
    page.complaints()  # Of the tests before.
    page.open(guest.proxy.url)
    page.sign_in(player.username)
    for _ in range(3):
        play(page)
    assert calls(guest) == (1, 3)
    page.wait_text("my-score", "60")
    # The waiting action's clock runs: a player who takes a long look at the board begins a new one.
    page.driver.execute_script(f"setClock({HOUR_MS})")
    play(page)
    assert calls(guest) == (2, 4)
    assert page.text("game-note") == ""
    assert page.complaints() == []


def test_the_game_tells_a_refused_next_as_a_refused_request(start_service: StartService, page: Page) -> None:
    service = start_service(RATE_LIMIT_REQUEST="1/10 seconds")
    player = client.register(service.url)
    with guest_of(service, page) as guest:
        page.open(guest.proxy.url)
        page.sign_in(player.username)
        play(page)
        page.find("start-game").click()
        page.wait_text("game-note", "Too many rounds in a short time.")
        assert page.text("start-game").startswith("Wait ")
        assert calls(guest) == (1, 1)
        page.wait_text("start-game", "Start")
        play(page)
        assert calls(guest) == (2, 2)
