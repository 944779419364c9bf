"""``scoreboard.js`` and time: clocks that are set, sessions that lapse, completions that come too late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from scoreboard.local import LocalServers
from tests.functional import client
from tests.functional.browser import Page, require_chromium, running_browser
from tests.functional.client import Player, eventually
from tests.functional.guest import WAIT_S, Guest
from tests.functional.proxy import BOARD, COMPLETE, REFRESH, STREAM, Fault, Proxy
from tests.service import Service, running_service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

ACTION_TTL_S = 8
ACCESS_TTL_S, REFRESH_TTL_S = 3, 6
HOUR_MS = 3_600_000
SCORE = "/v1/users/me/score"
# The device's clock, which `setClock` sets while the page is open.
SETTABLE_CLOCK = """
const RealDate = Date;
let shift = START;
window.setClock = (ms) => { shift = ms; };
globalThis.Date = class extends RealDate {
  constructor(...given) { given.length ? super(...given) : super(RealDate.now() + shift); }
  static now() { return RealDate.now() + shift; }
};
"""


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers) -> Iterator[Service]:
    require_chromium()
    with running_service(local_servers, ACTION_TOKEN_TTL_S=str(ACTION_TTL_S)) as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with running_browser() as page:
        yield page


@pytest.fixture
def guest(arena: Service, page: Page) -> Iterator[Guest]:
    with guest_of(arena, page) as guest:
        yield guest


@contextmanager
def guest_of(service: Service, page: Page, clock_ms: int = 0) -> Iterator[Guest]:
    """A page in this browser, which has its network and clock back afterwards."""
    key = page.inject(SETTABLE_CLOCK.replace("START", str(clock_ms)))
    with Proxy(service.url) as proxy:
        guest = Guest(page, proxy)
        try:
            yield guest
        finally:
            guest.be_offline(False)
            page.withdraw(key)
            page.driver.get("about:blank")


def tokens_of(player: Player) -> dict[str, str]:
    return {"accessToken": player.access_token, "refreshToken": player.refresh_token}


@pytest.fixture
def player(arena: Service) -> Player:
    return client.register(arena.url)


# -- clocks that are set ---------------------------------------------------------------------


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, HOUR_MS])
def test_a_clock_set_between_rounds_holds_nothing_up(guest: Guest, player: Player, shift_ms: int) -> None:
    guest.open_live(player)
    guest.start()
    assert guest.finish()["status"] == "applied"
    guest.read(f"setClock({shift_ms})")
    guest.start()
    # The script time-out of the browser bounds it: within seconds, not an hour.
    assert guest.finish()["status"] == "applied"
    assert player.score()["score"] == 2


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, HOUR_MS])
def test_the_services_clock_is_told_whatever_the_devices_shows(
    arena: Service, page: Page, player: Player, shift_ms: int
) -> None:
    with guest_of(arena, page, shift_ms) as guest:
        guest.open_live(player)
        assert abs(guest.read("Date.now()") - time.time() * 1000 - shift_ms) < 60_000
        # Whole seconds in the header, and what passes on the way.
        assert abs(guest.read("scoreboard.now()") - time.time() * 1000) < 10_000


def test_how_old_the_board_is_goes_by_the_services_clock(arena: Service, page: Page, player: Player) -> None:
    player.score_point()
    key = page.inject(SETTABLE_CLOCK.replace("START", str(3 * HOUR_MS)))
    try:
        page.open(arena.url)
        page.wait(lambda: page.text("updated") != "not updated yet", "a time")
        page.wait(lambda: " h ago" not in page.text("updated"), "the time by the service's clock")
    finally:
        page.withdraw(key)
        page.driver.get("about:blank")


# -- sessions ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short_lived(local_servers: LocalServers) -> Iterator[Service]:
    ttl = {"JWT_ACCESS_TTL_S": str(ACCESS_TTL_S), "JWT_REFRESH_TTL_S": str(REFRESH_TTL_S)}
    with running_service(local_servers, **ttl) as running:
        yield running


def test_a_page_without_a_network_tells_when_its_session_is_over(short_lived: Service, page: Page) -> None:
    player = client.register(short_lived.url)
    with guest_of(short_lived, page) as guest:
        guest.open_live(player)
        assert guest.read("scoreboard.user.id") == player.id
        guest.be_offline(True)
        guest.wait_told("auth", user=None, reason="expired")
        assert guest.read("scoreboard.user") is None


OPEN_WITH_TOKENS = """
const { Scoreboard } = await import("/static/scoreboard.js");
const scoreboard = new Scoreboard({ auth: "bearer", tokens: given[0] });
Object.assign(window, { scoreboard, told: [] });
for (const type of ["state", "auth", "tokens"]) {
  scoreboard.addEventListener(type, ({ detail }) => window.told.push([type, detail]));
}
await scoreboard.open();
return scoreboard.user && scoreboard.user.id;
"""


@pytest.mark.parametrize("clock_ms", [0, -HOUR_MS])
def test_lapsed_tokens_sign_nobody_in(short_lived: Service, page: Page, clock_ms: int) -> None:
    player = client.register(short_lived.url)
    tokens = tokens_of(player)
    deadline = time.monotonic() + REFRESH_TTL_S + 1
    eventually(lambda: time.monotonic() > deadline, bool, REFRESH_TTL_S + 5)
    with guest_of(short_lived, page, clock_ms) as guest:
        page.driver.get(guest.proxy.url + "/blank")
        assert page.run_async(OPEN_WITH_TOKENS, tokens) is None
        assert [auth["reason"] for auth in guest.told("auth")] == ["expired"]


@pytest.mark.parametrize("clock_ms", [0, 100 * 24 * HOUR_MS])
def test_refreshed_tokens_are_told_and_outlive_the_page(arena: Service, page: Page, clock_ms: int) -> None:
    player = client.register(arena.url)
    tokens = tokens_of(player)
    with guest_of(arena, page, clock_ms) as guest:
        for _ in range(3):
            page.driver.get(guest.proxy.url + "/blank")
            assert page.run_async(OPEN_WITH_TOKENS, tokens) == player.id
            assert page.run_async("await scoreboard.refresh()") is None
            (kept,) = guest.told("tokens")
            assert kept["user"]["id"] == player.id
            assert kept["refreshToken"] != tokens["refreshToken"]
            tokens = {name: kept[name] for name in tokens}
        assert len(guest.proxy.seen(REFRESH)) == 3
        assert page.run_async("return (await scoreboard.me()).userId") == player.id


# -- completions -----------------------------------------------------------------------------


def test_a_completion_that_never_left_is_not_promised_past_its_time(guest: Guest, player: Player) -> None:
    guest.open_live(player)
    guest.wait_told("score", score=0, pending=0)
    action_id = guest.start()
    guest.be_offline(True)
    outcome = guest.finish()
    assert outcome["status"] == "queued"
    assert 0 < outcome["sendsForMs"] <= ACTION_TTL_S * 1000
    guest.wait_told("score", score=1, pending=1)
    # Now its time is over, and nothing is promised any more.
    guest.wait_told("dropped", actionId=action_id, code="ACTION_TOKEN_EXPIRED")
    rolled_back = {"actionId": action_id, "points": 1, "reason": "ACTION_TOKEN_EXPIRED"}
    guest.wait_told("score", score=0, pending=0, rolledBack=rolled_back)
    assert guest.read("scoreboard.queued") == 0
    sent = len(guest.proxy.seen(COMPLETE))
    guest.be_offline(False)
    guest.wait_state("live")
    assert len(guest.proxy.seen(COMPLETE)) == sent
    assert player.score()["score"] == 0


def test_a_completion_whose_answer_was_lost_gets_it_after_its_time(guest: Guest, player: Player) -> None:
    guest.open_live(player)
    action_id = guest.start()
    # No stream tells what came of it.
    with guest.proxy.broken(STREAM, Fault("refuse")):
        guest.proxy.cut_streams()
        with guest.proxy.broken(COMPLETE, Fault("lose-answer")):
            assert guest.finish()["status"] == "queued"
            eventually(player.history, lambda items: len(items) == 1, WAIT_S)
            guest.be_offline(True)
            # Whether it counted is not known here: it is neither promised nor given up.
            rolled_back = {"actionId": action_id, "points": 1, "reason": "UNCONFIRMED"}
            guest.wait_told("score", score=0, pending=0, rolledBack=rolled_back)
            assert guest.read("scoreboard.queued") == 1
        guest.be_offline(False)
        guest.wait_told("result", actionId=action_id, status="applied", newScore=1)
        assert guest.read("scoreboard.queued") == 0
    assert guest.told("dropped") == []


def test_a_clock_set_over_a_reload_loses_no_round(arena: Service, page: Page, player: Player) -> None:
    unreachable = (COMPLETE, STREAM, BOARD, SCORE, REFRESH)
    with guest_of(arena, page) as guest:
        guest.open_live(player)
        guest.start()
        with ExitStack() as faults:
            for path in unreachable:
                faults.enter_context(guest.proxy.broken(path, Fault("drop")))
            assert guest.finish()["status"] == "queued"
            # Whatever the device shows now, nobody has told the page what time it is.
            key = page.inject("{ " + SETTABLE_CLOCK.replace("START", str(25 * HOUR_MS)) + " }")
            try:
                guest.open()
                assert guest.read("scoreboard.queued") == 1
            finally:
                page.withdraw(key)
        guest.page.driver.execute_script("scoreboard.retry()")
        guest.wait_state("live")
        guest.wait(lambda: player.score()["score"] == 1, "the round")


def test_a_wait_past_its_time_is_said_at_once(guest: Guest, player: Player) -> None:
    guest.open_live(player)
    action_id = guest.start()
    with guest.proxy.broken(COMPLETE, Fault("refuse", 429, retry_after_s=60)):
        assert guest.finish() == {"error": "HTTP_429"}
    guest.wait_told("dropped", actionId=action_id, code="HTTP_429")
    guest.wait_told("score", score=0, pending=0)
    assert len(guest.proxy.seen(COMPLETE)) == 1
