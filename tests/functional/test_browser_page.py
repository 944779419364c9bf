"""The page at ``/`` and the module for other sites, in real browsers, on the whole service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from scoreboard.local import LocalServers
from tests.conftest import StartService
from tests.functional import client
from tests.functional.browser import Page, Row, require_chromium, running_browser
from tests.functional.client import Admin, Api, new_name
from tests.service import Service, running_service

# A browser starts in one to three seconds on two busy cores, and the main job needs three of them.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

OpenPage = Callable[..., Page]
PHONE = {"width": 390, "height": 844, "is_phone": True}
# The stream ends within 5 s of a ban; the browser then comes back after `retry:`, 3 s at most, is refused, asks why and
# gives up its session: three more calls.
BANNED_WITHIN_S = 12.0
# A page that lost the service tries again after random waits of up to 2 and 4 s, then polls every 5 s and a bit.
BACK_WITHIN_S = 30.0


@dataclass(frozen=True)
class Site:
    """Another site: one page, under two names of this machine, which are two origins."""

    port: int

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def stranger(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><title>Another site</title><ol id='top'></ol>"
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # the base class's signature
            """Nothing: the test's output is not an access log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Site(server.server_port)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers, site: Site) -> Iterator[Service]:
    """A service of this module's own: on a board that others fill, a round's ten points would not show."""
    require_chromium()
    with running_service(local_servers, CORS_ORIGINS=site.origin) as running:
        yield running


@pytest.fixture(scope="module")
def admin(arena: Service) -> Admin:
    return client.create_staff(arena)


@pytest.fixture
def open_page() -> Iterator[OpenPage]:
    """Open a page in a new browser with a new profile; all are closed when the test ends."""
    with ExitStack() as closing:

        def start(url: str, **looks: int | bool) -> Page:
            return closing.enter_context(running_browser(**looks)).open(url)  # type: ignore[arg-type]

        yield start


def served_rows(url: str) -> list[Row]:
    """The visible board as the service tells it."""
    return [Row(row["rank"], row["username"], row["score"]) for row in client.board(Api(url), limit=10)]


def test_two_people_play_and_everybody_sees_the_board_move(start_service: StartService, open_page: OpenPage) -> None:
    require_chromium()
    url = start_service().url
    ann, bob, watcher = (open_page(url) for _ in range(3))
    everybody = {"ann": ann, "bob": bob, "watcher": watcher}
    names = {"ann": new_name("Ann"), "bob": new_name("Bob")}

    def agree_on(*rows: Row) -> None:
        for page in everybody.values():
            for row in rows:
                page.wait_row(row)
            page.wait_still()
            assert page.rows() == served_rows(url)

    # Who came first is ahead as long as both have nothing.
    bob.register(names["bob"])
    ann.register(names["ann"])
    agree_on(Row(1, names["bob"], 0), Row(2, names["ann"], 0))

    ann.play("easy", headline="+10")
    ann.wait_text("outcome-text", "Rank 1, up 1 place")
    agree_on(Row(1, names["ann"], 10), Row(2, names["bob"], 0))
    bob.wait_text("my-rank", "2")
    ann.screenshot("ann-leads")
    bob.screenshot("bob-sees-ann-lead")

    bob.play("medium", headline="+20")
    agree_on(Row(1, names["bob"], 20), Row(2, names["ann"], 10))
    ann.wait_text("my-rank", "2")
    bob.wait_text("my-score", "20")
    ann.screenshot("ann-sees-bob-lead")
    bob.screenshot("bob-leads")
    watcher.screenshot("watcher")

    for name, page in everybody.items():
        assert page.is_same_document(), f"{name}'s page was loaded anew"
        assert page.state == "Live"
        assert page.complaints() == [], name


def test_wrong_input_is_explained_at_its_field(arena: Service, open_page: OpenPage) -> None:
    taken = client.register(arena.url).username
    page = open_page(arena.url)

    page.find("submit").click()
    for name in ("username", "password"):
        page.wait_text(f"{name}-error", "Please fill this in.")
    assert page.text("email-error") == "", "an address is not needed"
    assert page.focused_id() == "username"

    page.fill(username="x", email="nobody", password="short")
    page.find("submit").click()
    page.wait_text("email-error", "This is not an e-mail address.")
    page.fill(email="nobody@example.com")
    page.find("submit").click()
    page.wait_text("username-error", "Must have 2 to 50 characters.")
    page.wait_text("password-error", "Must have 8 to 128 characters.")
    assert page.find("username").get_attribute("aria-invalid") == "true"

    page.fill(username=taken.upper(), password="password123")
    page.find("submit").click()
    page.wait_text("password-error", "Is too easy to guess.")
    page.fill(password=client.PASSWORD)
    page.find("submit").click()
    page.wait_text("username-error", "This name is taken. Try another one.")
    assert page.text("password-error") == ""
    page.screenshot("form")

    page.find("mode-login").click()
    page.fill(username=taken, password="not the pass phrase")
    page.find("submit").click()
    page.wait_visible("form-error")
    assert page.is_same_document()


def test_a_session_outlives_a_reload_and_ends_with_signing_out(arena: Service, open_page: OpenPage) -> None:
    page, name = open_page(arena.url), new_name("Éva")
    page.register(name)
    page.open(arena.url)
    page.wait_signed_in(name)
    assert not page.find("account").is_displayed()

    page.find("sign-out").click()
    page.wait_visible("account-form")
    assert not page.find("sign-out").is_displayed()
    page.open(arena.url)
    page.wait_visible("account-form")

    page.sign_in(name)
    page.play("easy", headline="+10")
    assert page.complaints() == []


def test_a_page_without_its_service_says_so_and_catches_up(start_service: StartService, open_page: OpenPage) -> None:
    require_chromium()
    service = start_service()
    page, name = open_page(service.url), new_name("Kim")
    page.register(name)
    page.deal("easy")

    service.stop_web()
    page.wait(lambda: page.state in ("Reconnecting …", "Offline"), "a sign that the connection is gone")
    page.tap_all("easy")
    page.wait_text("outcome-headline", "Kept")
    page.wait_text("connection", "Offline")
    page.screenshot("offline")

    service.start_web()
    newcomer = client.register(service.url).username
    page.wait_live(BACK_WITHIN_S)
    page.wait_row(Row(2, newcomer, 0))
    # The round played meanwhile is sent by itself, with growing pauses.
    page.wait(lambda: page.text("outcome-headline").startswith("+"), "the points", BACK_WITHIN_S)
    points = int(page.text("outcome-headline"))
    # The service's clock went on while the service was away, and speed is worth something.
    assert 5 <= points <= 10
    page.wait_row(Row(1, name, points))
    assert page.rows() == served_rows(service.url)
    assert page.is_same_document()


def test_the_keyboard_is_enough(arena: Service, open_page: OpenPage) -> None:
    page, name = open_page(arena.url), new_name("Zoë")
    page.tab_to("mode-register")
    page.press(Keys.ENTER)
    fields = {"username": name, "email": f"{name.split()[-1]}@example.com", "password": client.PASSWORD}
    for field, value in fields.items():
        page.tab_to(field)
        assert_focus_shows(page)
        page.press(value)
    page.press(Keys.ENTER)
    page.wait_signed_in(name)
    page.wait(lambda: page.focused_id() == "start-game", "the focus on Start")
    assert_focus_shows(page)

    page.press(Keys.ENTER)
    page.wait(lambda: page.cell(1), "the numbers")
    walk_to(page, 1)
    assert_focus_shows(page)
    page.press(Keys.ENTER)
    page.press(*"2345678")
    assert page.text("next-number") == "9"
    page.wait_human_time()
    page.press("9")
    page.wait(lambda: "+10" in page.text("announcer"), "the result in the live region")
    assert page.find("announcer").get_attribute("aria-live") == "polite"
    assert page.focused_id() == "start-game"


def walk_to(page: Page, number: int) -> None:
    """Go to a number of the easy grid with the arrow keys."""
    cells = page.find("grid").find_elements(By.TAG_NAME, "button")
    numbers = [int(cell.text) for cell in cells]
    down, right = divmod(numbers.index(number), 3)
    assert page.driver.switch_to.active_element == cells[0]
    page.press(*[Keys.ARROW_DOWN] * down, *[Keys.ARROW_RIGHT] * right)
    assert page.driver.switch_to.active_element == page.cell(number)


def assert_focus_shows(page: Page) -> None:
    """The element in focus has a visible outline."""
    style = page.driver.execute_script(
        "const style = getComputedStyle(document.activeElement);"
        "return [document.activeElement.matches(':focus-visible'), style.outlineStyle, parseFloat(style.outlineWidth)];"
    )
    assert style[:2] == [True, "solid"]
    assert style[2] >= 2


def test_a_phone_shows_the_board_first_and_every_name_as_text(
    arena: Service, admin: Admin, open_page: OpenPage
) -> None:
    names = ["静かなカワウソ", "لاعب النجوم السريع", "W" * 50, "<script>window.isPwned = true</script>"]
    for place, name in enumerate(names):
        admin.adjust(client.register(arena.url, username=name), 1_000_000 - place)
    for look in ({}, {"is_dark": True}):
        page = open_page(arena.url, **PHONE, **look)
        page.wait(lambda page=page: len(page.rows()) >= len(names), "the names")  # type: ignore[misc]
        assert [row.username for row in page.rows()][: len(names)] == names
        widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
        assert page.driver.execute_script(widths) == [390, 390]
        tops = {name: page.find(name).rect["y"] for name in ("leaderboard", "game", "account")}
        assert tops["leaderboard"] < tops["game"] < tops["account"]
        assert page.driver.execute_script("return window.isPwned === undefined")
        page.screenshot("phone-dark" if look else "phone")
        assert page.complaints() == []


CONNECT = """
const [service, player] = given;
const { Scoreboard } = await import(`${service}/static/scoreboard.js`);
const scoreboard = new Scoreboard({ baseUrl: service });
Object.assign(window, { scoreboard, told: [] });
for (const type of ["board", "score:update", "action:result"]) {
  scoreboard.addEventListener(type, ({ detail }) => window.told.push([type, detail]));
}
await scoreboard.open();
await scoreboard.login(player);
"""
SCORE = """
const action = await window.scoreboard.start("SOLVE_PROBLEM");
return (await window.scoreboard.finish(action)).actionId;
"""


def test_another_site_imports_the_module_and_gets_the_board_and_its_own_events(
    arena: Service, site: Site, open_page: OpenPage
) -> None:
    player, other = client.register(arena.url), client.register(arena.url)
    with running_browser() as page:
        page.driver.get(f"{site.origin}/")
        credentials = {"username": player.username, "password": player.password}
        assert page.run_async(CONNECT, arena.url, credentials) is None

        def told(kind: str, **wanted: object) -> bool:
            told = page.driver.execute_script("return window.told")
            return any(type_ == kind and wanted.items() <= detail.items() for type_, detail in told)

        page.wait(lambda: page.driver.execute_script("return scoreboard.state") == "live", "a live stream")
        action_id = page.run_async(SCORE)
        page.wait(lambda: told("action:result", actionId=action_id, status="applied"), "the action's result")
        page.wait(lambda: told("score:update", userId=player.id, newScore=1), "the score")
        other.score_point()
        page.wait(lambda: told("board", source="stream"), "the board")
        assert not told("score:update", userId=other.id)

        urls = page.driver.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
        assert f"{arena.url}/v1/stream/ticket" in urls
        assert page.driver.execute_script("return document.cookie") == ""


def test_a_site_that_is_not_named_gets_nothing(arena: Service, site: Site, open_page: OpenPage) -> None:
    with running_browser() as page:
        page.driver.get(f"{site.stranger}/")
        refused = page.run_async("await import(`${given[0]}/static/scoreboard.js`)", arena.url)
        assert "Failed to fetch dynamically imported module" in refused["error"]
        refused = page.run_async("await fetch(`${given[0]}/v1/leaderboard`)", arena.url)
        assert "Failed to fetch" in refused["error"]


def test_a_banned_players_open_page_signs_them_out_and_says_why(
    arena: Service, admin: Admin, open_page: OpenPage
) -> None:
    page, name = open_page(arena.url), new_name("Mallory")
    page.register(name)
    player_id = page.driver.execute_script("return scoreboard.user.id")
    admin.act(player_id, "ban")
    page.wait_text("form-error", "This account is banned.", BANNED_WITHIN_S)
    assert page.find("account-form").is_displayed()
    assert not page.find("sign-out").is_displayed()
    assert not page.find("standing").is_displayed()
    page.wait(lambda: page.row(name) is None, "a board without the banned player")
    page.screenshot("banned")

    page.fill(username=name, password=client.PASSWORD)
    page.find("submit").click()
    page.wait(lambda: "banned" in page.text("form-error"), "the refusal")
    assert page.is_same_document()
