"""docs/running-an-event.md as an organiser follows it: proxy, projector, moderating, closing, export."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from config import ROOT
from scoreboard.local import LocalServers
from scoreboard.local.servers import free_port
from tests.conftest import StartService
from tests.functional import client
from tests.functional.browser import require_chromium, running_browser
from tests.functional.client import Json, assert_refused, data_of, eventually
from tests.functional.test_quickstart import SERVICE, SNIPPET_WAIT_S, finished
from tests.security.pages_sites import running_site, site_of
from tests.service import Service, running_service
from tests.snippets import texts

pytestmark = pytest.mark.timeout(240)
PAGE = ROOT / "docs/running-an-event.md"
MODERATING = texts(PAGE, "Moderate", "sh")


@pytest.fixture(scope="module")
def site_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def event(local_servers: LocalServers, site_port: int) -> Iterator[Service]:
    """A service with an admin as the page makes one."""
    with running_service(local_servers, CORS_ORIGINS=f"http://127.0.0.1:{site_port}") as running:
        (command,) = texts(PAGE, "Make yourself an admin", "sh")
        setting, _, *arguments = shlex.split(command)
        name, value = setting.split("=")
        made = running.run(*arguments, **{name: value})
        assert made.returncode == 0, made.stderr
        yield running


def answers(text: str) -> list[Json]:
    """JSON documents, one after the other without a separator."""
    found, decoder, place = [], json.JSONDecoder(), 0
    while place < len(text):
        answer, place = decoder.raw_decode(text, place)
        found.append(answer)
    return found


def test_moderating_with_curl(event: Service, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("not installed: curl")
    player = client.register(event.url, username="mallory")
    for _ in range(2):
        player.score_point()
    sign_in, search, act = (text.replace(SERVICE, event.url).replace("-30", "-1") for text in MODERATING)
    said = answers(finished(["bash", "-euc", f"{sign_in}{search}id={player.id}\n{act}"], tmp_path))
    assert all(answer["success"] for answer in said), said
    found, flagged, cleared, adjusted, banned, unbanned, audit = (answer["data"] for answer in said)
    assert [user["id"] for user in found["items"]] == [player.id]
    assert [step["status"] for step in (flagged, cleared, banned, unbanned)] == [
        "flagged",
        "active",
        "banned",
        "active",
    ]
    assert adjusted["score"] == 1
    assert audit["items"][0]["event"] == "user.unbanned"


def test_the_export(event: Service, tmp_path: Path) -> None:
    name = '=1+1, "quoted"'
    client.register(event.url, username=name).score_point()
    (script,) = texts(PAGE, "Take the results with you", "python")
    rows = list(
        csv.DictReader(io.StringIO(finished([sys.executable, "-c", script.replace(SERVICE, event.url)], tmp_path)))
    )
    shown = client.board(client.Api(event.url))
    assert [(row["rank"], row["username"]) for row in rows] == [(str(row["rank"]), row["username"]) for row in shown]
    assert name in [row["username"] for row in rows]


@pytest.mark.browser
def test_the_projector(event: Service, site_port: int) -> None:
    require_chromium()
    client.register(event.url, username="on the wall").score_point()
    (page,) = texts(PAGE, "Put the board on the projector", "html")
    pages = site_of({"/projector.html": page.replace(SERVICE, event.url)})
    with running_site(pages, site_port) as site, running_browser() as browser:
        browser.driver.get(f"http://127.0.0.1:{site.port}/projector.html")
        shown = "return document.querySelector(arguments[0]).textContent"
        browser.wait(lambda: "on the wall1" in browser.driver.execute_script(shown, "#rows"), "the player on the wall")
        browser.wait(lambda: browser.driver.execute_script(shown, "#state") == "live", "a live board")


def test_closing_leaves_the_board_open(start_service: StartService) -> None:
    closing = re.search(r"`RATE_LIMIT_REQUEST=(\S+)`", PAGE.read_text(encoding="utf-8"))
    assert closing
    closed = start_service(RATE_LIMIT_REQUEST=closing[1])
    player = client.register(closed.url)
    refusal = player.api.post("/v1/actions/request", {"actionType": client.QUICK, "metadata": {}})
    assert_refused(refusal, 429, "RATE_LIMIT_EXCEEDED")
    assert [row["username"] for row in client.board(client.Api(closed.url))] == [player.username]


def test_hiding_the_last_half_hour(start_service: StartService) -> None:
    hidden = start_service()
    first, second = client.register(hidden.url), client.register(hidden.url)
    with hidden.frozen_worker():
        for player in (second, first):
            assert player.complete(player.request_action(), wait_s=None).status_code == 202
        assert {row["score"] for row in client.board(client.Api(hidden.url))} == {0}
    rows = eventually(lambda: client.board(client.Api(hidden.url)), lambda rows: all(row["score"] for row in rows), 30)
    assert [row["username"] for row in rows] == [second.username, first.username]


@contextmanager
def nginx(server: str, folder: Path) -> Iterator[None]:
    """nginx with this server and nothing else."""
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n{server}}}\n"
    )
    command = [shutil.which("nginx") or "", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


def test_the_proxy_in_front(start_service: StartService, tmp_path: Path) -> None:
    if not shutil.which("nginx"):
        pytest.skip("not installed: nginx")
    behind, port = start_service(TRUSTED_PROXIES="1"), free_port()
    (server,) = texts(PAGE, "One computer in the room", "nginx")
    url = f"http://127.0.0.1:{port}"
    with nginx(server.replace(SERVICE, behind.url).replace("listen 80", f"listen 127.0.0.1:{port}"), tmp_path):
        eventually(lambda: status(f"{url}/health"), lambda found: found == 200, SNIPPET_WAIT_S)
        assert status(f"{url}/metrics") == status(f"{url}/health/detailed") == 404
        assert status(f"{behind.url}/metrics") == 200
        player = client.register(url)
        with player.stream() as stream:
            stream.wait_for("leaderboard:initial")
            player.score_point()
            stream.wait_for("score:update")
        assert data_of(client.Api(url).get("/v1/leaderboard/top10"))["totalPlayers"] == 1


def status(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.ConnectError:
        return None
