"""The shipped nginx configuration, in a real nginx before a service in production.

TLS, HTTP/2, events at once, addresses that can't be made up, and the page with the cookies of production.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography.fernet import Fernet

from config import ROOT
from scoreboard.local import LocalServers
from scoreboard.local.process import KILL_WAIT_S, spawn
from scoreboard.local.servers import free_port
from tests.functional.browser import running_browser
from tests.functional.client import eventually, new_name
from tests.service import Service, open_folder, running_service

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
pytestmark = pytest.mark.skipif(
    NGINX is None and not os.environ.get("CI"), reason="needs nginx: apt-get install nginx-light"
)
# An event a second is sent; a proxy that buffers keeps them for ever.
EVENT_BOUND_S = 20.0
MADE_UP = "203.0.113.9"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "BIND": "127.0.0.1",
    "JWT_SECRET": token_urlsafe(48),
    "OPERATOR_TOKEN": token_urlsafe(24),
    "ACTION_TOKEN_KEYS": Fernet.generate_key().decode(),
}
_MAIN = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/scoreboard.conf;
}}
"""


@dataclass
class Front:
    service: Service
    http_port: int
    https_port: int
    certificate: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https_port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


@pytest.fixture(scope="module")
def front(local_servers: LocalServers) -> Iterator[Front]:
    with ExitStack() as closing:
        settings = {"TRUSTED_PROXIES": "1", "WEB_CONCURRENCY": "1", "HEARTBEAT_S": "1"}
        service = closing.enter_context(running_service(local_servers, **PRODUCTION, **settings))
        folder = closing.enter_context(open_folder())
        make_certificate(folder)
        ports = free_port(), free_port()
        values = {
            "UPSTREAM": urlsplit(service.url).netloc,
            "SERVER_NAME": "_",
            "CERTIFICATES": str(folder),
            "HTTP_PORT": str(ports[0]),
            "HTTPS_PORT": str(ports[1]),
        }
        text = (ROOT / "deploy/nginx/scoreboard.conf.template").read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        (folder / "scoreboard.conf").write_text(text)
        (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
        assert NGINX, "nginx is not installed"
        log = closing.enter_context((folder / "log").open("ab"))
        command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        process = spawn(command, death_signal=signal.SIGTERM, env=dict(os.environ), cwd=folder, output=log)
        closing.callback(end, process)
        eventually(lambda: listens(ports[1]) or process.poll() is not None, bool, 10)
        assert process.poll() is None, (folder / "log").read_text()
        yield Front(service, *ports, folder / "fullchain.pem")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(KILL_WAIT_S)


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def make_certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", "privkey.pem", "-out", "fullchain.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_plain_http_is_sent_to_tls(front: Front) -> None:
    answer = httpx.get(f"http://localhost:{front.http_port}/v1/leaderboard?limit=1", trust_env=False)
    assert (answer.status_code, answer.headers["Location"]) == (308, "https://localhost/v1/leaderboard?limit=1")


def test_http_2_is_spoken(front: Front) -> None:
    trust = front.trust
    trust.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", front.https_port), 10) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.selected_alpn_protocol() == "h2"


def test_events_come_one_by_one(front: Front) -> None:
    with (
        httpx.Client(verify=front.trust, trust_env=False, timeout=EVENT_BOUND_S) as http,
        http.stream("GET", f"{front.url}/v1/leaderboard/stream") as stream,
    ):
        assert stream.status_code == 200
        started_at, beats = time.monotonic(), 0
        for line in stream.iter_lines():
            assert time.monotonic() - started_at < EVENT_BOUND_S
            beats += line == "event: heartbeat"
            if beats == 2:
                break
        assert beats == 2


def test_an_address_that_a_caller_made_up_is_not_believed(front: Front) -> None:
    headers = {"X-Forwarded-For": MADE_UP}
    with httpx.Client(verify=front.trust, trust_env=False, headers=headers) as http:
        assert http.get(f"{front.url}/v1/leaderboard").status_code == 200
    line = eventually(
        lambda: [each for each in front.service.lines if '"path":"/v1/leaderboard"' in each], bool, EVENT_BOUND_S
    )[-1]
    assert MADE_UP not in line
    assert '"ip":"127.0.0.1"' in line


def test_the_start_warns_of_nothing(front: Front) -> None:
    assert not [each for each in front.service.lines if each.startswith("web") and "py.warnings" in each]


def test_the_page_plays_with_the_cookies_of_production(front: Front) -> None:
    """Registering, playing, a reload, a second tab, signing out and in: all that sends a cookie's CSRF token."""
    name = new_name()
    with running_browser(flags=["--ignore-certificate-errors"]) as page:
        page.open(front.url)
        page.register(name)
        cookies = page.driver.execute_cdp_cmd("Network.getAllCookies", {})["cookies"]
        assert {each["name"] for each in cookies} == {
            "__Host-access_token_cookie",
            "__Host-csrf_access_token",
            "__Secure-refresh_token_cookie",
            "__Host-csrf_refresh_token",
        }
        page.play("easy", "+10")
        # As if it had lapsed: the page refreshes, with the other CSRF token.
        page.driver.execute_cdp_cmd("Network.deleteCookies", {"name": "__Host-access_token_cookie", "url": front.url})
        page.open(front.url)
        page.wait_signed_in(name)
        page.wait_text("my-score", "10")
        page.find("sign-out").click()
        page.wait_visible("account-form")
        page.sign_in(name)
        page.play("easy", "+10")
        assert not [each for each in page.complaints() if "403" in each]
