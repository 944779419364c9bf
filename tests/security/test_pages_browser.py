"""Every page we serve, in a real browser: hostile names are text, and what gets in all the same is blocked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from selenium.common.exceptions import WebDriverException

from config import ROOT
from scoreboard.local import LocalServers
from tests.functional.browser import Page, require_chromium, running_browser
from tests.functional.client import Admin, Player, create_staff, register
from tests.security.pages_payloads import HTML, TEXTS
from tests.security.pages_sites import Site, running_site, site_of, tampered
from tests.service import Service, running_service

# Two busy cores, a browser, a whole service.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

# In every document before its own scripts: what the policy refused, and whether anything ran that should not.
WATCH = """
  window.violations = [];
  document.addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI }) =>
    window.violations.push([effectiveDirective, blockedURI]));
  for (const name of ["alert", "confirm", "prompt", "print"]) window[name] = () => { window.isPwned = name; };
"""
OUTLINE = "return [...document.querySelectorAll('*')].map((each) => each.localName).sort()"
# Of each row of the board, what it is made of and how its name is held.
ROWS = """
return [...document.querySelectorAll('[data-testid="rows"] [data-testid="row"]')].map((row) => [
  [...row.querySelectorAll("*")].map((each) => each.localName).join(" "),
  [...row.querySelector(".name").childNodes].map((each) => each.nodeName).join(" "),
  row.getAttributeNames().filter((name) => name.startsWith("on")).join(" ")]);
"""
REFUSED = """
return [window, ...Array.from(window.frames)].flatMap((each) => {
  try { return each.violations; } catch { return []; }
}).map(([directive]) => directive);
"""
# As the browser would by itself; the form's own "submit" is its button.
SEND_FORM = "HTMLFormElement.prototype.submit.call(document.querySelector('#account-form'))"
LEVEL = 10_000_000
NAMES = [text for text in TEXTS if "\0" not in text]
# What hostile text would become, and no page of ours has in its body.
SINKS = ("script", "iframe", "object", "embed", "img[src='x']", "svg", "math", "base", "form[action]", "a[href^='j']")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The pages of the other site, by path."""
    return {"/": "<!doctype html><link rel=icon href=data:,><title>Another site</title>"}


@pytest.fixture(scope="module")
def site(pages: dict[str, str]) -> Iterator[Site]:
    with running_site(site_of(pages)) as running:
        yield running


@pytest.fixture(scope="module")
def arena(local_servers: LocalServers, site: Site) -> Iterator[Service]:
    require_chromium()
    with running_service(local_servers, CORS_ORIGINS=site.origin) as running:
        yield running


@pytest.fixture(scope="module")
def admin(arena: Service) -> Admin:
    return create_staff(arena)


@pytest.fixture(scope="module")
def browser(arena: Service) -> Iterator[Page]:
    with running_browser() as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        yield page


@pytest.fixture(scope="module")
def players(arena: Service) -> list[Player]:
    """Ten, for the ten rows in sight."""
    return [register(arena.url) for _ in range(10)]


def rename(arena: Service, player: Player, name: str) -> None:
    """Give a name that the service would refuse: pages must not rely on what was let in."""
    engine = sa.create_engine(arena.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        statement = "UPDATE users SET username = :name, username_key = :id WHERE id = CAST(:id AS uuid)"
        connection.execute(sa.text(statement), {"name": name, "id": player.id})
    engine.dispose()


def look(page: Page, expression: str) -> Any:
    return page.driver.execute_script(f"return {expression}")


def count(page: Page, selector: str) -> int:
    return int(page.driver.execute_script("return document.querySelectorAll(arguments[0]).length", selector))


def refused(page: Page) -> list[str]:
    """The directives that refused something so far, in the page and in frames of its own."""
    directives: list[str] = page.driver.execute_script(REFUSED)
    return directives


def open_signed_out(page: Page, url: str) -> None:
    page.driver.delete_all_cookies()
    page.open(url)
    page.wait_visible("account-form")


def assert_untouched(page: Page) -> None:
    """Nothing ran and nothing was refused, as nothing tried."""
    assert look(page, "window.isPwned ?? null") is None
    assert look(page, "window.violations") == []


def test_every_name_is_drawn_as_text_on_the_board_as_it_moves(
    arena: Service, admin: Admin, browser: Page, players: list[Player]
) -> None:
    for place, player in enumerate(players):
        admin.adjust(player, LEVEL - place)
    browser.open(arena.url)
    browser.wait(lambda: len(browser.rows()) == 10, "ten rows")
    browser.complaints()
    shape = browser.driver.execute_script(ROWS)
    assert len({tuple(row) for row in shape}) == 1
    outline = browser.driver.execute_script(OUTLINE)

    for start in range(0, len(NAMES), 10):
        names = NAMES[start : start + 10]
        for player, name in zip(players, names, strict=False):
            rename(arena, player, name)
            # The board learns a name with the next change of the score.
            admin.adjust(player, LEVEL)
        wanted = sorted([*names])
        browser.wait(
            lambda wanted=wanted: (
                sorted(row.username for row in browser.rows())[: len(wanted)] != []  # type: ignore[misc]
                and set(wanted) <= {row.username for row in browser.rows()}
            ),
            f"the names {wanted}",
        )
        assert browser.driver.execute_script(ROWS) == shape
        assert browser.driver.execute_script(OUTLINE) == outline
        assert_untouched(browser)
    assert browser.complaints() == []

    # The same names from the very first moment of a page.
    names = [row.username for row in browser.rows()]
    browser.open(arena.url)
    browser.wait(lambda: [row.username for row in browser.rows()] == names, "the same names")
    assert browser.driver.execute_script(ROWS) == shape
    assert_untouched(browser)
    assert browser.complaints() == []


def test_a_hostile_name_of_ones_own_is_text_wherever_the_page_says_it(arena: Service, browser: Page) -> None:
    name = "<img src=x onerror=isPwned=1>"
    open_signed_out(browser, arena.url)
    browser.register(name)
    assert browser.text("current-user") == name
    assert browser.find("current-user").get_property("childElementCount") == 0
    browser.wait(lambda: name in browser.text("own-row"), "the own row below the ten")
    assert count(browser, ", ".join(f"body {each}" for each in SINKS)) == 0
    assert_untouched(browser)
    browser.find("sign-out").click()
    browser.wait_visible("account-form")
    browser.fill(username=name, email=f"{name[1:4]}@example.com", password="x")
    browser.find("submit").click()
    browser.wait(lambda: browser.text("password-error"), "a refusal")
    assert_untouched(browser)


# Text in addresses: it may show in pages, errors and descriptions, but never as markup.
ADDRESSES = [
    *(f"{path}{quote(text, safe='')}" for path in ("/", "/static/", "/v1/leaderboard/around/") for text in HTML[:2]),
    *(
        f"{path}?q={quote(HTML[0])}&limit={quote(HTML[1])}"
        for path in ("/", "/api/docs", "/openapi.json", "/v1/leaderboard")
    ),
    *(f"{path}#{quote(HTML[1])}" for path in ("/", "/api/docs")),
    f"/api/docs#{HTML[1]}",
    "/v1/leaderboard",
    "/v1/admin/users?q=<script>isPwned=1</script>",
    "/health",
]


def test_no_address_makes_a_page_run_anything(arena: Service, browser: Page) -> None:
    for path in ADDRESSES:
        browser.driver.get(arena.url + path)
        assert_untouched(browser)
        kind = look(browser, "document.contentType")
        assert kind in ("text/html", "application/json")
        if kind == "application/json":
            assert count(browser, ", ".join(SINKS)) == 0, path


def test_pages_that_say_nothing_wrong_hear_of_no_violation(arena: Service, browser: Page) -> None:
    browser.complaints()
    for path in ("/", "/api/docs"):
        browser.driver.get(arena.url + path)
        browser.wait(lambda: look(browser, "document.readyState") == "complete", "a loaded page")
        assert_untouched(browser)
        assert look(browser, "[...document.styleSheets].filter((each) => each.cssRules.length).length") >= 1
    assert browser.complaints() == []


def test_another_site_that_follows_the_documentation_draws_names_as_text(
    arena: Service, admin: Admin, site: Site, pages: dict[str, str], browser: Page, players: list[Player]
) -> None:
    """The ten lines of docs/embedding.md, word for word."""
    guide = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```html\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    pages["/embed"] = pages["/"] + example.replace("https://scores.example", arena.url)
    for player, name in zip(players, HTML, strict=False):
        rename(arena, player, name)
        admin.adjust(player, 10 * LEVEL)
    wanted = sorted(HTML[:10])
    browser.driver.get(f"{site.origin}/embed")
    texts = "[...document.querySelectorAll('#top li')].map((each) => each.textContent.replace(/ \\d+$/, ''))"
    browser.wait(lambda: sorted(look(browser, texts)) == wanted, "the names on the other site")
    assert count(browser, "#top li *") == 0
    assert_untouched(browser)
    assert browser.complaints() == []


# -- when something got in all the same -------------------------------------------------------


# What is written into the page, and the directive that refuses it.
INJECTED = {
    "<script>window.isPwned = 'script'</script>": "script-src-elem",
    "<script type=module>window.isPwned = 'module'</script>": "script-src-elem",
    "<script src='{site}/evil.js'></script>": "script-src-elem",
    "<script src='data:text/javascript,isPwned=1'></script>": "script-src-elem",
    "<img src=/none.png onerror=\"window.isPwned = 'image'\">": "script-src-attr",
    "<svg onload=\"window.isPwned = 'svg'\"></svg>": "script-src-attr",
    "<style>body {{ display: none }}</style>": "style-src-elem",
    "<link rel=stylesheet href='{site}/evil.css'>": "style-src-elem",
    "<p style='position: fixed; inset: 0'>Sign in here</p>": "style-src-attr",
    "<img src='{site}/pixel.png'>": "img-src",
    "<iframe src='{site}/'></iframe>": "frame-src",
    "<iframe srcdoc='<script>parent.isPwned = 1</script>'></iframe>": "script-src-elem",
    "<object data='{site}/'></object>": "object-src",
    "<base href='{site}/'>": "base-uri",
    "<video src='{site}/a.mp4'></video>": "media-src",
}


def test_what_is_injected_into_a_page_is_blocked(arena: Service, site: Site, browser: Page) -> None:
    for markup, directive in INJECTED.items():
        with running_site(tampered(arena.url, markup.format(site=site.origin))) as copy:
            browser.driver.get(f"{copy.origin}/api/docs")
            browser.wait(
                lambda directive=directive: directive in refused(browser),  # type: ignore[misc]
                f"the refusal of {markup} by {directive}",
            )
            assert look(browser, "window.isPwned ?? null") is None, markup
    browser.complaints()


# What a script of ours would do if it made one of the usual mistakes.
MISTAKES = {
    "innerHTML": "document.body.innerHTML = '<b>x</b>'",
    "insertAdjacentHTML": "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
    "write": "document.write('<b>x</b>')",
    "script text": "document.createElement('script').text = 'window.isPwned = 1'",
    "script address": "document.createElement('script').src = 'data:text/javascript,isPwned=1'",
    "srcdoc": "document.createElement('iframe').srcdoc = '<b>x</b>'",
    "fragment": "document.createRange().createContextualFragment('<b>x</b>')",
    "parser": "new DOMParser().parseFromString('<b>x</b>', 'text/html')",
    "eval": "eval('window.isPwned = 1')",
    "function": "new Function('window.isPwned = 1')()",
    "timer": "setTimeout('window.isPwned = 1')",
}


def test_a_mistake_in_a_script_of_ours_would_fail_instead_of_running_text(arena: Service, browser: Page) -> None:
    """Trusted Types and the policy, in a file from our own folder, which the policy lets run."""
    tries = [f"try {{ {code}; }} catch (error) {{ caught[{name!r}] = error.name; }}" for name, code in MISTAKES.items()]
    script = "\n".join(["window.caught = {};", *tries, "window.isDone = true;"])
    with running_site(tampered(arena.url, "<script src=/static/script.js></script>", script)) as copy:
        browser.driver.get(f"{copy.origin}/api/docs")
        browser.wait(lambda: look(browser, "window.isDone"), "the end of the script")
        assert set(look(browser, "window.caught")) == set(MISTAKES)
        assert look(browser, "window.isPwned ?? null") is None
    browser.complaints()


def test_links_and_forms_lead_nowhere_else(arena: Service, site: Site, browser: Page) -> None:
    markup = f"<a id=link href=\"javascript:window.isPwned='link'\">x</a><form id=form action='{site.origin}/'></form>"
    with running_site(tampered(arena.url, markup)) as copy:
        browser.driver.get(f"{copy.origin}/api/docs")
        address = browser.driver.current_url
        for action, directive in (("link.click()", "script-src-elem"), ("form.submit()", "form-action")):
            browser.driver.execute_script(action)
            browser.wait(lambda directive=directive: directive in refused(browser), directive)  # type: ignore[misc]
        assert browser.driver.current_url == address
        assert look(browser, "window.isPwned ?? null") is None
    browser.complaints()


def test_a_password_never_gets_into_an_address(arena: Service, browser: Page) -> None:
    """As when the form is sent before the scripts are there: a browser would put its fields into the query."""
    open_signed_out(browser, arena.url)
    browser.fill(username="somebody", password="a pass phrase")
    browser.driver.execute_script(SEND_FORM)
    browser.wait(lambda: refused(browser) == ["form-action"], "the refusal")
    assert "?" not in browser.driver.current_url
    assert browser.is_same_document()
    browser.complaints()


def test_no_other_site_shows_or_runs_what_is_ours(
    arena: Service, site: Site, pages: dict[str, str], browser: Page
) -> None:
    pages["/frame"] = f"{pages['/']}<iframe src='{arena.url}/'></iframe>"
    pages["/tags"] = (
        f"{pages['/']}<script>window.failed = []</script>"
        f"<script src='{arena.url}/static/page.js' onerror=\"failed.push('script')\"></script>"
        f"<script src='{arena.url}/v1/leaderboard' onerror=\"failed.push('json')\"></script>"
        f"<img src='{arena.url}/static/favicon.svg' onerror=\"failed.push('picture')\">"
        f"<link rel=stylesheet href='{arena.url}/static/page.css' onerror=\"failed.push('style')\">"
    )
    browser.complaints()
    browser.driver.get(f"{site.origin}/frame")
    heard: list[str] = []

    def is_refused() -> bool:
        heard.extend(browser.complaints())
        return any("frame-ancestors" in each for each in heard)

    browser.wait(is_refused, "the refusal to be framed")
    browser.driver.get(f"{site.origin}/tags")
    browser.wait(lambda: sorted(look(browser, "failed")) == ["json", "picture", "script", "style"], "four refusals")
    with suppress(WebDriverException):
        browser.complaints()
