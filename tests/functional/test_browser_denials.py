"""``scoreboard.js`` where the browser has less than it seems to: refused, absent, throwing or silent facilities.

Blocked cookies are a setting of a real Chromium; what no setting takes away is taken by a script that runs before those
of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from scoreboard.local import LocalServers
from tests.functional import client
from tests.functional.browser import Page, require_chromium, running_browser
from tests.functional.client import Admin, Player
from tests.functional.guest import Guest
from tests.functional.proxy import Proxy
from tests.service import Service, running_service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

COOKIES_BLOCKED = {"profile.default_content_setting_values.cookies": 2}
# A host that is none of the machine's own: browsers hide locks and WebCrypto from its plain http pages.
PLAIN_HOST = "scores.example"


def replace(target: str, name: str, descriptor: str) -> str:
    return f"Object.defineProperty({target}, '{name}', {{ configurable: true, {descriptor} }});"


LEADS = count(1_000, 1_000)
REFUSE = "Promise.reject(new DOMException('refused', 'SecurityError'))"
THROW = "get() { throw new DOMException('refused', 'SecurityError'); }"
DENIALS = {
    "locks refused": replace("LockManager.prototype", "request", f"value: () => {REFUSE}"),
    "locks throw": replace("Navigator.prototype", "locks", THROW),
    "locks absent": replace("Navigator.prototype", "locks", "value: undefined"),
    "locks silent": replace("LockManager.prototype", "request", "value: () => new Promise(() => {})"),
    "channels throw": "globalThis.BroadcastChannel = class { constructor() { throw new Error('refused'); } };",
    "channels absent": "delete globalThis.BroadcastChannel;",
    "channels silent": replace("BroadcastChannel.prototype", "postMessage", "value: () => {}"),
    "channels break": "const post = BroadcastChannel.prototype.postMessage; let left = 2;"
    + replace(
        "BroadcastChannel.prototype",
        "postMessage",
        "value(message) { if (left-- <= 0) throw new Error('closed'); post.call(this, message); }",
    ),
    "storage throws": replace("window", "localStorage", THROW) + replace("window", "sessionStorage", THROW),
    "storage null": replace("window", "localStorage", "value: null")
    + replace("window", "sessionStorage", "value: null"),
    "storage full": replace("Storage.prototype", "setItem", "value: () => { throw new Error('quota'); }"),
    "storage forgets": replace("Storage.prototype", "setItem", "value: () => {}"),
    "storage cannot be read": replace("Storage.prototype", "getItem", "value: () => { throw new Error('refused'); }"),
    "cookies throw": replace("Document.prototype", "cookie", THROW),
    "crypto absent": replace("window", "crypto", "value: undefined"),
    "crypto silent": replace("SubtleCrypto.prototype", "sign", "value: () => new Promise(() => {})"),
    "streams absent": "delete globalThis.EventSource;",
    "streams throw": "globalThis.EventSource = class { constructor() { throw new Error('refused'); } };",
    "formats absent": "delete globalThis.Intl;",
    "visibility absent": replace("Document.prototype", "visibilityState", "value: undefined"),
    "network state absent": replace("Navigator.prototype", "onLine", "value: undefined"),
}
# What nobody can tell from a slow one is waited for beside polling; see the module's tabs.
POLLED = {"locks silent", "streams absent", "streams throw"}


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers) -> Iterator[Service]:
    require_chromium()
    with running_service(local_servers) as running:
        yield running


@pytest.fixture(scope="module")
def admin(arena: Service) -> Admin:
    return client.create_staff(arena)


@pytest.fixture
def player(arena: Service, admin: Admin) -> Player:
    """One above all before, so that the board shows them."""
    player = client.register(arena.url)
    admin.adjust(player, next(LEADS))
    return player


@pytest.fixture(scope="module")
def page(arena: Service) -> Iterator[Page]:
    with running_browser() as page:
        yield page


def play(guest: Guest, player: Player, state: str) -> None:
    """Sign in, see the board, earn a point, and see that it is counted."""
    score = player.score()["score"]
    guest.open(player)
    guest.wait_board(player, score)
    guest.wait_state(state)
    guest.start()
    assert guest.finish()["status"] == "applied"
    guest.wait_told("score", score=score + 1, pending=0)
    guest.wait_board(player, score + 1)
    assert guest.read("scoreboard.queued") == 0


@pytest.mark.parametrize("denial", DENIALS)
def test_what_is_denied_has_another_way(arena: Service, player: Player, page: Page, denial: str) -> None:
    # Cookies go by the host, and the last test's player is not this one's.
    page.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    key = page.inject(DENIALS[denial])
    try:
        with Proxy(arena.url) as proxy:
            play(Guest(page, proxy), player, "polling" if denial in POLLED else "live")
    finally:
        page.withdraw(key)
        page.driver.get("about:blank")


@pytest.mark.parametrize(
    "denial",
    [
        "delete globalThis.matchMedia;",
        "delete globalThis.IntersectionObserver;",
        "Element.prototype.animate = () => { throw new Error('refused'); };",
    ],
)
def test_a_page_that_may_not_move_is_played_standing_still(arena: Service, page: Page, denial: str) -> None:
    page.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    key = page.inject(denial)
    page.complaints()  # Of the tests before.
    try:
        page.open(arena.url)
        page.register(client.new_name())
        page.play("easy", headline="+10")
        assert page.complaints() == []
    finally:
        page.withdraw(key)
        page.driver.get("about:blank")


def test_a_browser_that_blocks_all_cookies_watches_and_plays(arena: Service, player: Player) -> None:
    with running_browser(preferences=COOKIES_BLOCKED) as blocked, Proxy(arena.url) as proxy:
        guest = Guest(blocked, proxy)
        play(guest, player, "live")
        assert guest.read("document.cookie") == ""
        assert guest.read("scoreboard.session.mode") == "bearer"


def test_the_page_of_a_browser_that_blocks_all_cookies_is_live(arena: Service, player: Player) -> None:
    with running_browser(preferences=COOKIES_BLOCKED) as blocked:
        blocked.open(arena.url)
        blocked.wait(lambda: blocked.row(player.username), "the board")
        blocked.sign_in(player.username)
        player.score_point()
        blocked.wait_text("my-score", f"{player.score()['score']:,}")


def test_plain_http_from_another_host_has_neither_locks_nor_web_crypto(arena: Service, player: Player) -> None:
    flags = [f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1"]
    with running_browser(flags=flags) as plain, Proxy(arena.url, host=PLAIN_HOST) as proxy:
        guest = Guest(plain, proxy)
        play(guest, player, "live")
        assert guest.read("[isSecureContext, typeof navigator.locks, typeof crypto.subtle]") == [
            False,
            "undefined",
            "undefined",
        ]
