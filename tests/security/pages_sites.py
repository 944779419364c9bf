"""Sites of others, and a copy of ours that somebody has written into, for a real browser to look at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx

HTML = "text/html; charset=utf-8"
# What makes the browser safe, passed on by the copy as the service sent it.
KEPT = ("content-type", "content-security-policy", "x-content-type-options", "cross-origin-opener-policy")


@dataclass
class Answer:
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": HTML})


@dataclass(frozen=True)
class Site:
    """A running site. It is a stranger to the service, or a friend if its origin is among CORS_ORIGINS."""

    port: int

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"


@contextmanager
def running_site(answer: Callable[[str], Answer], port: int = 0) -> Iterator[Site]:
    """A site that answers every GET by this function of path and query, on this port or on a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = answer(self.path)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # the base class's signature
            """Nothing: the test's output is not an access log."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield Site(server.server_port)
        server.shutdown()
        thread.join()


def site_of(pages: dict[str, str]) -> Callable[[str], Answer]:
    """These pages and nothing else; they may be added to while the site runs."""

    def answer(path: str) -> Answer:
        page = pages.get(urlsplit(path).path)
        return Answer((page or "").encode(), 200 if page is not None else 404)

    return answer


def tampered(service_url: str, markup: str, script: str = "") -> Callable[[str], Answer]:
    """The service's own pages and files under its own headers, with markup that somebody got into the pages.

    ``script`` is at ``/static/script.js``, as if somebody had got a file in as well.
    """

    def answer(path: str) -> Answer:
        if path == "/static/script.js":
            return Answer(script.encode(), 200, {"Content-Type": "text/javascript; charset=utf-8"})
        if path.startswith("/v1/"):
            return Answer(b"{}", 404, {"Content-Type": "application/json"})
        said = httpx.get(service_url + path, timeout=30)
        headers = {name: value for name, value in said.headers.items() if name in KEPT}
        return Answer(said.content.replace(b"</body>", markup.encode() + b"</body>"), said.status_code, headers)

    return answer
