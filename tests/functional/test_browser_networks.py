"""The page on bad networks: a proxy that holds streams back, a network that was gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from scoreboard.local.process import GUARD
from scoreboard.local.servers import free_port
from tests.functional import client
from tests.functional.browser import Page, require_chromium, running_browser
from tests.functional.client import eventually
from tests.functional.guest import Guest
from tests.functional.proxy import EVERYTHING, Fault, Proxy
from tests.service import Service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

# An nginx that compresses all there is, as many are set up: it holds events back until there are enough of them. The
# service asks it not to buffer; this one is told to ignore that, as proxies do that do not know the header.
NGINX = """
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{}}
http {{
  access_log off; proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types *;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {service}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
    }}
  }}
}}
"""
# The stream is given 3 s; before polling beside it rows came after 30 s. The rest is the machine's.
FIRST_ROWS_S = 12.0
UNREACHABLE = "cannot be reached"


@pytest.fixture
def page() -> Iterator[Page]:
    require_chromium()
    with running_browser() as page:
        yield page


@contextmanager
def buffering_proxy(service: Service, folder: Path) -> Iterator[str]:
    """The address of an nginx that holds streams back."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if nginx is None:
        if os.environ.get("CI"):
            pytest.fail("nginx not found; on Debian: apt-get install nginx-light")
        pytest.skip("needs nginx")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, service=service.url), encoding="utf-8")
    guard = [sys.executable, "-I", "-S", GUARD, int(signal.SIGTERM), -1, -1, os.getpid()]
    command = [*map(str, guard), nginx, "-p", str(folder), "-c", str(config)]
    with subprocess.Popen(command) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: is_up(url), bool)
            yield url
        finally:
            process.terminate()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_rows_are_soon_there_behind_a_proxy_that_buffers(service: Service, page: Page, tmp_path: Path) -> None:
    client.register(service.url)
    with buffering_proxy(service, tmp_path) as url:
        page.driver.get(url)
        page.wait(page.rows, "rows", FIRST_ROWS_S)
        page.wait_text("connection", "Polling")
        assert page.complaints() == []


def test_what_could_not_be_reached_is_forgotten_once_it_can(service: Service, page: Page) -> None:
    player = client.register(service.url)
    with Proxy(service.url) as proxy:
        guest = Guest(page, proxy)
        page.open(proxy.url)
        guest.be_offline(True)
        page.wait_text("connection", "Offline")
        page.find("mode-login").click()
        page.fill(username=player.username, password=player.password)
        page.find("submit").click()
        page.wait(lambda: UNREACHABLE in page.text("form-error"), "the refusal")
        guest.be_offline(False)
        page.wait_live()
        page.wait_text("form-error", "")

        page.sign_in(player.username)
        guest.be_offline(True)
        page.wait_text("connection", "Offline")
        page.find("start-game").click()
        page.wait(lambda: UNREACHABLE in page.text("game-note"), "the refusal")
        guest.be_offline(False)
        page.wait_live()
        page.wait_text("game-note", "")


def test_what_could_not_be_reached_is_forgotten_also_where_the_stream_held(service: Service, page: Page) -> None:
    player = client.register(service.url)
    with Proxy(service.url) as proxy:
        guest = Guest(page, proxy)
        page.open(proxy.url)
        page.sign_in(player.username)
        guest.be_offline(True, keeps_stream=True)
        page.wait_text("connection", "Offline")
        # The stream is heard, so the state is what it was, and does not change when the network comes back.
        player.score_point()
        page.wait_live()
        page.find("start-game").click()
        page.wait(lambda: UNREACHABLE in page.text("game-note"), "the refusal")
        guest.be_offline(False)
        page.wait_text("game-note", "")


def test_a_gateways_own_page_is_a_service_that_is_away(service: Service, page: Page) -> None:
    player = client.register(service.url)
    with Proxy(service.url) as proxy:
        page.open(proxy.url)
        page.find("mode-login").click()
        with proxy.broken(EVERYTHING, Fault("refuse", status=502)):
            proxy.cut_streams()
            page.fill(username=player.username, password=player.password)
            page.find("submit").click()
            page.wait(lambda: UNREACHABLE in page.text("form-error"), "the refusal")
            page.wait(lambda: UNREACHABLE in page.text("board-note"), "the cause")
        page.wait_live(40)
        page.wait_text("form-error", "")
        page.sign_in(player.username)
        with proxy.broken(EVERYTHING, Fault("refuse", status=504)):
            proxy.cut_streams()
            page.find("start-game").click()
            page.wait(lambda: UNREACHABLE in page.text("game-note"), "the refusal")
        page.wait_live(40)
        page.wait_text("game-note", "")
