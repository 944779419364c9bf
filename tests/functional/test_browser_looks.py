"""How the page looks, reads and behaves in hard cases, in a real browser: narrow, large, busy, refused, alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from config import ROOT
from scoreboard.local import LocalServers
from tests.conftest import StartService
from tests.functional import client
from tests.functional.browser import Page, running_browser
from tests.functional.client import Admin, Player, new_name
from tests.service import Service, running_service

# A browser starts in one to three seconds on two busy cores.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

AXE = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 390, "height": 844, "is_phone": True}
LARGEST = 2**53 - 1
TENTH_SCORE = 991
LONG_NAMES = ["W" * 50, "لاعب النجوم السريع جدا في المدينة الكبيرة كلها", "静" * 50, "a b" * 16 + "cd"]
# The rendering of a board that changes once a second may cost so much more of a core with movement than without.
# Measured: 1 point, where endless and repainting animations cost 17; the rest is for busy machines.
MOVEMENT_MAX_SHARE = 0.08
BUSY_S = 5.0

OVERLAPS = """
const found = [];
for (const row of document.querySelectorAll('[data-testid="leaderboard"] [data-testid="row"]')) {
  const [rank, name, score] = [".rank b", ".name", ".score b"].map((part) => row.querySelector(part));
  const box = (element) => { const range = document.createRange(); range.selectNodeContents(element);
    const { left, right, top, bottom } = range.getBoundingClientRect(); return { left, right, top, bottom }; };
  const [number, figure] = [box(rank), box(score)];
  const { left, right, top, bottom, width } = name.getBoundingClientRect();
  const apart = (one, other) => one.right <= other.left + 1 || other.right <= one.left + 1 ||
    one.bottom <= other.top + 1 || other.bottom <= one.top + 1;
  const words = { left, right, top, bottom };
  if (!apart(number, words) || !apart(words, figure) || !apart(number, figure)) found.push(["covered", row.innerText]);
  if (width < 24) found.push(["no room", row.innerText]);
  if (figure.right > row.getBoundingClientRect().right) found.push(["outside", row.innerText]);
}
return found;
"""
# Notes at every frame where something is, and what the page says of the player in two places.
WATCH = """
window.seen = { tops: [], pairs: [], totals: [] };
const text = (id) => document.querySelector(`[data-testid="${id}"]`).textContent;
(function look() {
  window.seen.tops.push(document.getElementById("grid").getBoundingClientRect().top);
  const mine = document.querySelector('[data-testid="leaderboard"] .me .score b');
  const score = text("my-score");
  if (mine && score !== "–") window.seen.pairs.push([score, mine.textContent, text("my-pending")]);
  const [rank, total] = [text("my-rank"), text("total-players")];
  if (rank !== "–") window.seen.totals.push([rank, total]);
  requestAnimationFrame(look);
})();
"""
TAP_AT_ONCE = """
const cells = [...document.querySelectorAll("#grid [data-number]")];
for (const cell of cells.sort((one, other) => one.dataset.number - other.dataset.number)) cell.click();
"""
ANIMATIONS = """
return document.getAnimations().map(({ effect }) => [
  effect.getComputedTiming().iterations,
  [...new Set(effect.getKeyframes().flatMap((frame) => Object.keys(frame)))]
    .filter((name) => !["offset", "computedOffset", "easing", "composite"].includes(name)),
]);
"""


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers) -> Iterator[Service]:
    """A service with more than ten players, whose names and scores are as long as they may be."""
    with running_service(local_servers) as service:
        admin = client.create_staff(service)
        for place in range(12):
            name = LONG_NAMES[place] if place < len(LONG_NAMES) else new_name("Rival")
            player = client.register(service.url, username=name)
            admin.adjust(player, LARGEST - 1_000 * place if place < 8 else TENTH_SCORE + 9 - place)
        yield service


@pytest.fixture(scope="module")
def admin(arena: Service) -> Admin:
    return client.create_staff(arena)


def look(page: Page, width: int, **features: str) -> None:
    """Change the window and what the reader prefers, as in ``prefers-color-scheme``, with underscores."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    chosen = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": chosen})


def enlarge_text(page: Page, percent: int) -> None:
    page.driver.execute_script(f"document.documentElement.style.fontSize = '{percent}%'")


def signed_in(page: Page, player: Player) -> None:
    page.sign_in(player.username, player.password)
    page.wait(lambda: page.text("my-rank") != "–", "the own rank")


def assert_fits(page: Page) -> None:
    root = "document.documentElement"
    whole, shown = page.driver.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
    assert whole == shown
    assert page.driver.execute_script(OVERLAPS) == []


@pytest.mark.parametrize("is_dark", [False, True])
def test_nothing_covers_a_name_or_is_wider_than_the_window(arena: Service, admin: Admin, is_dark: bool) -> None:
    scheme = {"prefers_color_scheme": "dark" if is_dark else "light"}
    player = client.register(arena.url, username=new_name("W" * 35))
    with running_browser() as page:
        page.open(arena.url)
        for state in ("signed out", "below the ten"):
            if state != "signed out":
                signed_in(page, player)
                page.wait_visible("own-row")
            for width, percent in ((1280, 100), (768, 200), (390, 100), (320, 100), (320, 200)):
                look(page, width, **scheme)
                enlarge_text(page, percent)
                page.wait_still()
                assert_fits(page)
                page.screenshot(f"fits-{state.replace(' ', '-')}-{width}-{percent}{'-dark' if is_dark else ''}")
        admin.adjust(player, LARGEST - 500)
        page.wait(lambda: page.row(player.username), "the row among the ten")
        look(page, 390, **scheme)
        enlarge_text(page, 100)
        page.wait_still()
        assert_fits(page)
        admin.adjust(player, 500 - LARGEST)


def violations(page: Page) -> list[Any]:
    found: list[Any] = page.run_async(
        "const { violations } = await axe.run();"
        "return violations.map(({ id, nodes }) => [id, nodes.map((node) => [node.html, node.failureSummary])]);"
    )
    return found


def load_axe(page: Page) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is installed by make frontend/node_modules/.installed")
    page.wait_still()
    page.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})


def test_axe_finds_nothing_to_complain_of(arena: Service) -> None:
    player = client.register(arena.url)
    with running_browser() as page:
        page.open(arena.url)
        load_axe(page)
        for looks in (
            {"prefers_color_scheme": "light"},
            {"prefers_color_scheme": "dark"},
            {"forced_colors": "active"},
        ):
            look(page, 390, **looks)
            assert violations(page) == [], f"signed out, {looks}"
        page.find("submit").click()
        assert violations(page) == [], "with errors at the fields"
        signed_in(page, player)
        for scheme in ("light", "dark"):
            look(page, 1280, prefers_color_scheme=scheme)
            page.wait_still()
            assert violations(page) == [], f"signed in, {scheme}"
        page.deal("easy")
        assert violations(page) == [], "while playing"
        page.tap_all("easy")
        page.wait_text("outcome-headline", "+10")
        page.wait_still()
        assert violations(page) == [], "with an outcome"

        page.driver.get(f"{arena.url}/api/docs")
        load_axe(page)
        for width, scheme in ((1280, "light"), (320, "dark")):
            look(page, width, prefers_color_scheme=scheme)
            assert violations(page) == [], f"the description of the API, {width}, {scheme}"


def accessible_nodes(page: Page) -> list[tuple[str, str]]:
    """Role and name of what a screen reader meets, in order."""
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node["role"]["value"] not in ("StaticText", "InlineTextBox", "generic")
    ]


def test_a_screen_reader_meets_a_page_in_order(arena: Service) -> None:
    with running_browser() as page:
        page.open(arena.url)
        nodes = accessible_nodes(page)
        roles = [role for role, _ in nodes]
        assert roles.count("main") == 1
        assert [name for role, name in nodes if role == "heading"] == ["Top ten", "Number trail", "Play for points"]
        assert [name for role, name in nodes if role == "columnheader"] == ["Rank", "Player", "Score"]
        assert roles.count("row") == 11
        first = roles.index("row", roles.index("row") + 1)
        assert [name for role, name in nodes[first:] if role == "cell"][:2] == ["1", LONG_NAMES[0]]
        assert next(name for role, name in nodes if role == "radio").startswith("Easy")
        assert {"User name", "E-mail optional", "Password 8+ characters"} <= {
            name for role, name in nodes if role == "textbox"
        }
        assert all(name for role, name in nodes if role in ("button", "link", "textbox", "radio", "table"))


def test_forced_colours_show_what_is_a_button_and_which_is_pressed(arena: Service) -> None:
    def style(test_id: str, *names: str) -> list[str]:
        script = "const style = getComputedStyle(arguments[0]); return arguments[1].map((name) => style[name]);"
        found: list[str] = page.driver.execute_script(script, page.find(test_id), list(names))
        return found

    with running_browser() as page:
        page.open(arena.url)
        look(page, 1280, forced_colors="active")
        canvas = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        for test_id in ("start-game", "submit", "mode-register", "mode-login", "go-sign-in"):
            width, line, colour = style(test_id, "borderTopWidth", "borderTopStyle", "borderTopColor")
            assert float(width.removesuffix("px")) >= 1, test_id
            assert (line, colour == canvas) == ("solid", False), test_id
        assert style("mode-register", "outlineStyle") == ["solid"]
        assert style("mode-login", "outlineStyle") == ["none"]
        page.deal("easy")
        assert float(style("grid", "borderTopWidth")[0].removesuffix("px")) == 0
        cell = page.driver.execute_script(
            "return getComputedStyle(document.querySelector('#grid button')).borderTopWidth"
        )
        assert float(cell.removesuffix("px")) >= 1
        page.screenshot("forced-colours")


@contextmanager
def busy_board(admin: Admin, player: Player) -> Iterator[None]:
    """One change of the board a second, with two rows that change places."""
    stop = threading.Event()

    def change() -> None:
        for count in range(1_000):
            admin.adjust(player, 120 if count % 2 == 0 else -120)
            if stop.wait(1.0):
                return

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def drawing_s(page: Page) -> float:
    """CPU seconds of the processes that draw."""
    total = 0.0
    for process in psutil.Process(page.driver.service.process.pid).children(recursive=True):
        with process.oneshot():
            if {"--type=renderer", "--type=gpu-process"} & set(process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system
    return total


def test_a_page_left_open_costs_next_to_nothing(arena: Service, admin: Admin) -> None:
    players = [client.register(arena.url) for _ in range(2)]
    for place, player in enumerate(players):
        admin.adjust(player, LARGEST - 400 - 100 * place)
    shares: dict[str, float] = {}
    with running_browser() as page:
        page.open(arena.url)
        with busy_board(admin, players[1]):
            for motion in ("reduce", "no-preference"):
                look(page, 1280, prefers_reduced_motion=motion)
                time.sleep(2.0)  # What the change itself costs is over.
                before, began = drawing_s(page), time.monotonic()
                while time.monotonic() < began + BUSY_S:
                    for iterations, properties in page.driver.execute_script(ANIMATIONS):
                        assert iterations == 1
                        assert set(properties) <= {"transform", "opacity"}, "drawn by the compositor alone"
                        assert motion != "reduce", "stillness was asked for"
                    time.sleep(0.2)
                shares[motion] = (drawing_s(page) - before) / (time.monotonic() - began)
    for player in players:
        admin.adjust(player, -player.score()["score"])
    assert shares["no-preference"] <= shares["reduce"] + MOVEMENT_MAX_SHARE, shares


def test_the_grid_stays_in_place_while_the_board_above_changes(arena: Service, admin: Admin) -> None:
    player = client.register(arena.url)
    with running_browser(**PHONE) as page:  # type: ignore[arg-type]
        page.open(arena.url)
        signed_in(page, player)
        page.wait_visible("own-row")
        page.deal("hard")
        for scrolled in (False, True):
            if scrolled:
                page.driver.execute_script("document.getElementById('grid').scrollIntoView({ block: 'end' })")
            page.driver.execute_script(WATCH)
            admin.adjust(player, LARGEST - 300)
            page.wait(lambda: page.row(player.username), "the row among the ten")
            admin.adjust(player, 300 - LARGEST)
            page.wait(lambda: page.row(player.username) is None and page.find("own-row").is_displayed(), "the own row")
            page.wait_still()
            tops = page.driver.execute_script("return window.seen.tops")
            assert max(tops) - min(tops) <= 1, f"scrolled: {scrolled}"


def test_the_grid_stays_in_place_while_the_first_players_come(start_service: StartService) -> None:
    service = start_service()
    with running_browser(**PHONE) as page:  # type: ignore[arg-type]
        page.open(service.url)
        page.wait_visible("board-empty")
        page.screenshot("nobody")
        page.driver.execute_script(WATCH)
        name = new_name()
        page.register(name)
        page.wait(lambda: page.row(name), "the own row")
        # Alone: ahead of nobody, and nothing to be behind of.
        page.wait_text("my-percentile", "nobody yet")
        page.wait_text("total-players", "1")
        page.screenshot("alone")
        page.driver.execute_script(WATCH)
        others = [client.register(service.url) for _ in range(3)]
        page.wait(lambda: page.row(others[-1].username), "the others")
        page.wait_text("my-percentile", "100 %")
        page.wait_still()
        tops = page.driver.execute_script("return window.seen.tops")
        assert max(tops) - min(tops) <= 1


def test_a_page_opened_in_the_background_has_its_figures_once_it_is_looked_at(
    arena: Service,
) -> None:
    with running_browser() as page:
        page.open(arena.url)
        page.register(new_name())
        front = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        tab = page.driver.current_window_handle
        page.driver.execute_cdp_cmd("Target.activateTarget", {"targetId": front})
        page.driver.get(arena.url)
        page.wait_visible("sign-out")
        page.wait(page.rows, "the board")
        assert page.driver.execute_script("return document.visibilityState") == "hidden"
        page.driver.execute_cdp_cmd("Target.activateTarget", {"targetId": tab})
        # Below the ten: the board does not tell it.
        page.wait(lambda: page.text("my-rank") != "–", "the own rank")
        page.wait_text("my-score", "0")


@pytest.mark.parametrize(("width", "height"), [(1280, 600), (844, 390), (568, 320), (390, 844), (320, 256)])
def test_a_round_begins_with_all_its_numbers_in_view(arena: Service, width: int, height: int) -> None:
    with running_browser(width, height, is_phone=width < 1_000) as page:
        page.open(arena.url)
        # As low in the window as it can be pressed.
        page.driver.execute_script("document.getElementById('start').scrollIntoView({ block: 'end' })")
        page.deal("hard")
        edges = page.driver.execute_script(
            "return [document.getElementById('grid').getBoundingClientRect(),"
            " document.getElementById('next-number').getBoundingClientRect(), innerHeight];"
        )
        grid, following, inner = edges
        assert grid["top"] >= 0
        assert max(grid["bottom"], following["bottom"]) <= inner


def test_every_place_tells_the_same_of_the_player(arena: Service, admin: Admin) -> None:
    player = client.register(arena.url)
    admin.adjust(player, LARGEST - 20_000)
    with running_browser() as page:
        page.open(arena.url)
        signed_in(page, player)
        page.wait(lambda: page.row(player.username), "the row among the ten")
        page.driver.execute_script(WATCH)
        page.driver.execute_cdp_cmd("Network.enable", {})
        slow = {"offline": False, "latency": 700, "downloadThroughput": -1, "uploadThroughput": -1}
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        page.play("easy", headline="+10")
        page.wait_text("my-score", f"{LARGEST - 20_000 + 10:,}")
        assert page.text("chase")
        seen = page.driver.execute_script("return window.seen")
        assert [pair for pair in seen["pairs"] if pair[0] != pair[1]] == []
        assert "+10 pending" in {pair[2] for pair in seen["pairs"]}
        admin.adjust(player, 20_000 - LARGEST)
        page.wait_visible("own-row")
        seen = page.driver.execute_script("return window.seen")
        assert [pair for pair in seen["pairs"] if pair[0] != pair[1]] == []


def test_no_rank_is_over_the_number_of_players(arena: Service) -> None:
    with running_browser() as page:
        page.open(arena.url)
        page.driver.execute_script(WATCH)
        page.register(new_name())
        page.wait(lambda: page.text("my-rank") != "–", "the own rank")
        client.register(arena.url)
        page.play("easy", headline="+10")
        totals = page.driver.execute_script("return window.seen.totals")
        assert totals
        numbers = [tuple(int(text.replace(",", "")) for text in pair) for pair in totals]
        assert [pair for pair in numbers if pair[0] > pair[1]] == []


TIMES_SAID = """
const { timeText } = await import("/static/page/texts.js");
const known = { minTimeMs: 1000, maxTimeMs: 9000 };
return [
  timeText({ bound: "minimum", boundMs: 1000, actualMs: 800 }, { tookMs: 5000, ...known }),
  timeText({ bound: "maximum", boundMs: 9000, actualMs: 12000 }, { tookMs: 5000, ...known }),
  timeText(null, { tookMs: 12000, ...known }),
  timeText(null, { tookMs: 5000, ...known }),
];
"""


def test_a_round_out_of_time_is_told_which_bound(arena: Service) -> None:
    with running_browser() as page:
        page.open(arena.url)
        assert page.run_async(TIMES_SAID) == [
            "Too quick: 0.8 s is under the 1.0 s this level takes at least.",
            "Too slow: 12.0 s is over the 9.0 s a round may take.",
            "Too slow: 12.0 s is over the 9.0 s a round may take.",
            "Too slow: the round reached the service later than a round may take.",
        ]


def test_an_outcome_is_celebrated_where_the_player_looks(arena: Service, admin: Admin) -> None:
    player = client.register(arena.url)
    admin.adjust(player, TENTH_SCORE - 5)
    with running_browser(**PHONE) as page:  # type: ignore[arg-type]
        page.open(arena.url)
        signed_in(page, player)
        page.deal("easy")
        # The last number in the last row, the rest of the grid above the window.
        page.driver.execute_script(
            "const { bottom } = document.getElementById('grid').getBoundingClientRect(); scrollBy(0, bottom - 100);"
        )
        page.wait_human_time()
        page.driver.execute_script(TAP_AT_ONCE)
        page.wait_text("outcome-headline", "+10")
        page.wait_text("outcome-feat", "Into the top ten!")

        def is_in_view() -> bool:
            top, bottom, height = page.driver.execute_script(
                "const { top, bottom } = document.getElementById('outcome').getBoundingClientRect();"
                "return [top, bottom, innerHeight];"
            )
            return bool(top >= 0 and bottom <= height)

        page.wait(is_in_view, "the outcome in view")
        page.wait_still()
        page.screenshot("celebrated")


def test_a_round_shows_what_it_is_worth_and_says_when_it_was_too_quick(arena: Service) -> None:
    with running_browser() as page:
        page.open(arena.url)
        page.register(new_name())
        page.deal("hard")
        page.wait_text("worth", "50 points")
        page.driver.execute_script(TAP_AT_ONCE)
        page.wait_text("outcome-headline", "No points")
        assert page.text("outcome-text").startswith("Too quick: ")
        assert "4.0 s" in page.text("outcome-text")
        assert page.text("worth") == ""


def test_signing_out_leaves_nothing_of_the_player(arena: Service) -> None:
    with running_browser() as page:
        page.open(arena.url)
        name = new_name()
        # Without an address, which nothing is ever sent to.
        page.fill(username=name, password=client.PASSWORD)
        page.find("submit").click()
        page.wait_signed_in(name)
        page.play("easy", headline="+10")
        page.find("sign-out").click()
        page.wait_visible("account-form")
        assert [page.find(name).get_property("value") for name in ("username", "email", "password")] == ["", "", ""]
        assert page.text("outcome") == ""
        assert page.text("current-user") == ""
        assert page.text("clock") == "0.0 s"
        assert not page.find("own-row").is_displayed()
        assert not page.find("chase").is_displayed()
        assert page.find("api-docs").get_attribute("href") == f"{arena.url}/api/docs"


def test_refusals_say_why_and_when_the_page_tries_again(start_service: StartService) -> None:
    service = start_service(RATE_LIMIT_STREAM="1/15 seconds", RATE_LIMIT_LOGIN="1/8 seconds")
    player = client.register(service.url)
    with running_browser() as page, client.open_stream(service.url) as first:
        first.wait_for("leaderboard:initial")
        page.driver.get(service.url)
        page.wait(lambda: "Too many calls came from here" in page.text("board-note"), "the cause")
        page.wait(lambda: "Next try in " in page.text("connection-wait"), "the wait")
        page.wait(lambda: page.text("connection") == "Polling", "the board without a stream")
        page.screenshot("refused")
        page.wait_live(40)
        assert page.text("connection-wait") == ""
        assert page.text("board-note").startswith("Equal scores")

        page.find("mode-login").click()
        # Two tries within the limit's time, which a busy machine may need more for.
        for _ in range(6):
            page.fill(username=player.username, password="not the pass phrase")
            page.find("submit").click()
            page.wait_visible("form-error")
            page.wait(lambda: page.find("submit").is_enabled(), "the answer")
            if page.text("form-error").startswith("Too many tries to sign in."):
                break
        else:
            pytest.fail("no try to sign in was one too many")
        page.wait(lambda: "Try again in " in page.text("form-error-wait"), "the wait")
        page.wait(lambda: not page.find("form-error").is_displayed(), "an end of the refusal")


CATALOGUE = """
[actions.OTHER]
title = "Another game"
min_time_ms = 0
max_time_ms = 500
points = { kind = "fixed", value = 7 }
"""


def test_a_service_with_other_games_lets_this_one_be_practised(start_service: StartService, tmp_path: Path) -> None:
    catalogue = tmp_path / "actions.toml"
    catalogue.write_text(CATALOGUE)
    service = start_service(ACTION_CATALOGUE=str(catalogue))
    with running_browser() as page:
        page.open(service.url)
        page.register(new_name())
        page.wait(lambda: page.text("game-note").startswith("Just for practice"), "a word about points")
        page.deal("easy")
        page.tap_all("easy")
        page.wait_text("outcome-text", "A fine trail.")
        assert page.text("game-note") == ""
        assert page.complaints() == []
