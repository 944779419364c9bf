"""The quick start as a reader follows it: every snippet of the page, word for word but for the ports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config import ROOT
from scoreboard.local import LocalServers
from scoreboard.local.servers import free_port
from tests.functional.browser import require_chromium, running_browser
from tests.functional.client import eventually
from tests.security.pages_sites import running_site, site_of
from tests.service import Service, running_service
from tests.snippets import texts

# A snippet takes about three seconds; a browser on a busy machine adds several.
pytestmark = pytest.mark.timeout(240)
SNIPPET_WAIT_S = 60.0

PAGE = ROOT / "docs/quickstart.md"
SERVICE, SITE = "http://127.0.0.1:8000", "http://127.0.0.1:9000"


@pytest.fixture(scope="module")
def site_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def quick(local_servers: LocalServers, site_port: int) -> Iterator[Service]:
    """A service with the limits it comes with, which lets in the page's own site."""
    with running_service(local_servers, CORS_ORIGINS=f"http://127.0.0.1:{site_port}") as running:
        yield running


@contextmanager
def watching(command: list[str], folder: Path) -> Iterator[Path]:
    """A command that goes on until it is ended; the file it writes into."""
    output = folder / "watch.txt"
    with output.open("w") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=folder) as run:
        try:
            yield output
        finally:
            run.terminate()


def wait_for(output: Path, text: str) -> None:
    eventually(output.read_text, lambda said: text in said, SNIPPET_WAIT_S)


def finished(command: list[str], folder: Path) -> str:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SNIPPET_WAIT_S, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_steps_with_curl(quick: Service, tmp_path: Path) -> None:
    if missing := [name for name in ("curl", "openssl") if not shutil.which(name)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    watch, play = (text.replace(SERVICE, quick.url) for text in texts(PAGE, "With curl", "sh"))
    with watching(["bash", "-c", f"exec {watch}"], tmp_path) as output:
        wait_for(output, "leaderboard:initial")
        said = finished(["bash", "-euo", "pipefail", "-c", play], tmp_path)
        assert '"status":"applied"' in said
        assert '"newScore":10' in said
        wait_for(output, "leaderboard:update")


def test_the_steps_in_python(quick: Service, tmp_path: Path) -> None:
    watch, play = (text.replace(SERVICE, quick.url) for text in texts(PAGE, "In Python", "python"))
    with watching([sys.executable, "-c", watch], tmp_path) as output:
        wait_for(output, "leaderboard:initial")
        assert finished([sys.executable, "-c", play], tmp_path).startswith("applied 10 points, rank ")
        wait_for(output, "'grace', 10")


def test_the_way_to_let_in_another_site() -> None:
    (start,) = texts(PAGE, "In JavaScript", "sh")
    assert start == f"CORS_ORIGINS={SITE} make run\n"


@pytest.mark.browser
@pytest.mark.parametrize(("number", "player"), [(0, "alan"), (1, "katherine")], ids=["module", "plain"])
def test_the_pages_in_javascript(quick: Service, site_port: int, number: int, player: str) -> None:
    require_chromium()
    page = texts(PAGE, "In JavaScript", "html")[number].replace(SERVICE, quick.url)
    with running_site(site_of({"/page.html": page}), site_port) as site, running_browser() as browser:
        browser.driver.get(f"http://127.0.0.1:{site.port}/page.html")
        shown = "return document.querySelector(arguments[0]).textContent"
        outcome = browser.wait(
            lambda: str(browser.driver.execute_script(shown, "#outcome")).partition(": 10 points, rank ")[1], "points"
        )
        assert outcome
        browser.wait(lambda: f"{player} 10" in browser.driver.execute_script(shown, "#top"), "the player on the board")
