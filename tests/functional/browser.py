"""Real Chromium, and what a person does on the page in it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from config import ROOT
from scoreboard.local.process import GUARD
from tests.functional.client import PASSWORD

T = TypeVar("T")
CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
ARTIFACTS = ROOT / "tests" / "artifacts"
# What the test must not do on the side (fetch updates, talk to Google), and what a container can't do (a sandbox).
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The driver holds the other end of the pipe: a browser whose driver is gone ends by itself.
    "--remote-debugging-pipe",
)
# Two cores with three browsers, PostgreSQL and the service on them: what takes 1 s may take several.
WAIT_S = 40.0
POLL_S = 0.05
CELLS = {"easy": 9, "medium": 16, "hard": 25}
# Just over the least times of the levels: a machine taps faster than the rules believe.
HUMAN_MS = {"easy": 1_100, "medium": 2_100, "hard": 4_100}

_ROWS = """
return [...document.querySelectorAll('[data-testid="rows"] [data-testid="row"]')].map((row) => [
  Number(row.querySelector(".rank b").textContent), row.querySelector(".name").textContent,
  Number(row.querySelector(".score b").textContent.replaceAll(",", ""))]);
"""
_CELLS = """
const number = (cell) => Number(cell.dataset.number);
return [...arguments[0].querySelectorAll("[data-number]")].sort((one, other) => number(one) - number(other));
"""


@dataclass(frozen=True)
class Row:
    """A line of the board as a person reads it."""

    rank: int
    username: str
    score: int


class Page:
    """The page at ``/`` of a service, in one browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> Page:
        """Load the page and wait until it is live; from now on :meth:`is_same_document` holds until it is left."""
        self.driver.get(url)
        self.wait(lambda: self.driver.execute_script("return document.documentElement.dataset.ready"), "a ready page")
        self.driver.execute_script("window.isSameDocument = true")
        self.wait_live()
        return self

    # -- looking ---------------------------------------------------------------------

    def find(self, test_id: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, f'[data-testid="{test_id}"]')

    def text(self, test_id: str) -> str:
        """The text of an element, also of one that only a screen reader meets."""
        return str(self.find(test_id).get_property("textContent")).strip()

    def rows(self) -> list[Row]:
        """The board, all its lines at one instant."""
        return [Row(*line) for line in self.driver.execute_script(_ROWS)]

    def row(self, username: str) -> Row | None:
        return next((row for row in self.rows() if row.username == username), None)

    @property
    def state(self) -> str:
        """What the connection's sign says."""
        return self.text("connection")

    def is_same_document(self) -> bool:
        """Whether nothing was loaded anew since :meth:`open`."""
        return bool(self.driver.execute_script("return window.isSameDocument === true"))

    def complaints(self) -> list[str]:
        """Errors in the console since the last look: refused by the Content-Security-Policy, thrown, or not found."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, name: str) -> None:
        """Save what is in the window for people to look at."""
        ARTIFACTS.mkdir(exist_ok=True)
        self.driver.save_screenshot(str(ARTIFACTS / f"{name}.png"))

    # -- waiting ---------------------------------------------------------------------

    def wait(self, condition: Callable[[], T], what: str, timeout_s: float = WAIT_S) -> T:
        """The first true value of the condition; fails with ``what`` was waited for."""
        passing = (NoSuchElementException, StaleElementReferenceException)
        waiting = WebDriverWait(self.driver, timeout_s, POLL_S, ignored_exceptions=passing)
        try:
            return waiting.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}; {self._describe()}") from None

    def wait_text(self, test_id: str, text: str, timeout_s: float = WAIT_S) -> None:
        """Wait until the element says exactly this."""
        self.wait(lambda: self.text(test_id) == text, f"{test_id} to say {text!r}", timeout_s)

    def wait_row(self, row: Row, timeout_s: float = WAIT_S) -> None:
        """Wait until the board has this line."""
        self.wait(lambda: row in self.rows(), f"{row} on the board", timeout_s)

    def wait_live(self, timeout_s: float = WAIT_S) -> None:
        self.wait_text("connection", "Live", timeout_s)

    def wait_visible(self, test_id: str) -> WebElement:
        self.wait(lambda: self.find(test_id).is_displayed(), f"{test_id} in sight")
        return self.find(test_id)

    def wait_still(self) -> None:
        """Wait until every row has arrived where it moves to."""
        endless = "getComputedStyle(a.effect.target).animationIterationCount === 'infinite'"
        still = f"return document.getAnimations().every((a) => a.playState !== 'running' || {endless})"
        self.wait(lambda: self.driver.execute_script(still), "the end of all movement")

    # -- doing -----------------------------------------------------------------------

    def fill(self, **fields: str) -> None:
        """Type into the fields of the form, over what is there."""
        for name, value in fields.items():
            field = self.find(name)
            field.clear()
            field.send_keys(value)

    def register(self, username: str, password: str = PASSWORD) -> None:
        """Create an account through the form, and wait until the page knows who is there."""
        self.find("mode-register").click()
        self.fill(username=username, email=f"{uuid4().hex}@example.com", password=password)
        self.find("submit").click()
        self.wait_signed_in(username)

    def sign_in(self, username: str, password: str = PASSWORD) -> None:
        self.find("mode-login").click()
        self.fill(username=username, password=password)
        self.find("submit").click()
        self.wait_signed_in(username)

    def wait_signed_in(self, username: str) -> None:
        """Signed in, with a stream that brings what concerns this player."""
        self.wait_visible("sign-out")
        self.wait_text("current-user", username)
        self.wait_live()

    def deal(self, difficulty: str) -> None:
        """Choose a difficulty and start; returns when the numbers lie there."""
        option = self.find(f"difficulty-{difficulty}")
        option.find_element(By.XPATH, "..").click()
        self.find("start-game").click()
        # Those of the last round stay below the curtain until then.
        self.wait(lambda: not self.find("start-game").is_displayed() and self.cell(1), "the numbers")

    def cell(self, number: int) -> WebElement:
        return self.find("grid").find_element(By.CSS_SELECTOR, f'[data-number="{number}"]')

    def cells(self, count: int) -> list[WebElement]:
        """So many cells in the order of their numbers, found at once: all the points are for a quick round."""
        found = self.driver.execute_script(_CELLS, self.find("grid"))
        assert len(found) == count
        return list(found)

    def tap_all(self, difficulty: str) -> None:
        """Tap the numbers in order, the last one when a person could have."""
        *first, last = self.cells(CELLS[difficulty])
        for cell in first:
            cell.click()
        self.wait_human_time(difficulty)
        last.click()

    def wait_human_time(self, difficulty: str = "easy") -> None:
        """Wait by the game's own clock until the round is long enough to count."""
        least_ms = HUMAN_MS[difficulty]
        self.wait(lambda: float(self.text("clock").split()[0]) * 1_000 >= least_ms, "the game's clock")

    def play(self, difficulty: str, headline: str) -> None:
        """Play a round by tapping, and wait for what the page then says."""
        self.deal(difficulty)
        self.tap_all(difficulty)
        self.wait_text("outcome-headline", headline)

    def press(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, test_id: str, limit: int = 20) -> None:
        """Press Tab until this element has the focus; fails when that is not to be reached so."""
        for _ in range(limit):
            self.press(Keys.TAB)
            if self.focused_id() == test_id:
                return
        raise AssertionError(f"{limit} times Tab did not lead to {test_id}")

    def focused_id(self) -> str | None:
        return self.driver.switch_to.active_element.get_attribute("data-testid")

    def inject(self, script: str) -> str:
        """Run a script in every page from now on, before its own; the key for :meth:`withdraw`."""
        found = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        return str(found["identifier"])

    def withdraw(self, key: str) -> None:
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": key})

    def run_async(self, script: str, *arguments: Any) -> Any:
        """Run the body of an async function in the page; what it returns."""
        wrapped = f"""
            const done = arguments[arguments.length - 1];
            (async (...given) => {{ {script} }})(...arguments)
              .then(done, (error) => done({{ error: error.code ?? String(error) }}));
        """
        return self.driver.execute_async_script(wrapped, *arguments)

    def _describe(self) -> str:
        try:
            return f"the page says {self.state!r} and shows {self.rows()}"
        except NoSuchElementException:
            return f"at {self.driver.current_url}"


def require_chromium() -> None:
    """Skip the test on a machine without Chromium; fail it where CI is set."""
    missing = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
    if not missing:
        return
    reason = f"{' and '.join(missing)} not found; on Debian: apt-get install chromium chromium-driver"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running_browser(
    width: int = 1280,
    height: int = 900,
    *,
    is_dark: bool = False,
    is_phone: bool = False,
    flags: Sequence[str] = (),
    preferences: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Page]:
    """A Chromium with a new profile of its own, as a second person's would be; both are gone afterwards."""
    require_chromium()
    with tempfile.TemporaryDirectory(prefix="scoreboard-browser-", ignore_cleanup_errors=True) as profile:
        driver = webdriver.Chrome(
            options=_options(
                profile,
                [*flags, f"--window-size={width},{height}"],
                preferences,
                screen=(width, height) if is_phone else None,
            ),
            service=_GuardedDriver(),
        )
        try:
            if not is_phone:
                screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            driver.set_script_timeout(WAIT_S)
            yield Page(driver)
        finally:
            driver.quit()


class _GuardedDriver(webdriver.ChromeService):
    """A chromedriver that ends with the test run, also when that is killed.

    Its program is named, so Selenium looks for none and downloads none.
    """

    def __init__(self) -> None:
        super().__init__(sys.executable)

    def command_line_args(self) -> list[str]:
        guard = ("-I", "-S", GUARD, int(signal.SIGTERM), -1, -1, os.getpid(), CHROMEDRIVER)
        return [*map(str, guard), *super().command_line_args()]


def _options(
    profile: str, flags: Sequence[str], preferences: Mapping[str, object], *, screen: tuple[int, int] | None
) -> webdriver.ChromeOptions:
    """``screen``: that of a phone."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}", *flags):
        options.add_argument(flag)
    if preferences:
        options.add_experimental_option("prefs", dict(preferences))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if screen:
        metrics = {"width": screen[0], "height": screen[1], "pixelRatio": 2, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    return options
