"""A reverse proxy between a browser and the service, whose connections the test can break."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import urlsplit

# A page of the proxy's own, which leaves everything to the scripts of the test.
BLANK = "/blank"
_BLANK_PAGE = b"<!doctype html><html lang=en><link rel=icon href=data:,><title>A page of the test</title>"
EVERYTHING, STREAM = "/", "/v1/leaderboard/stream"
REQUEST, COMPLETE = "/v1/actions/request", "/v1/actions/complete"
BOARD = "/v1/leaderboard"
REFRESH = "/v1/auth/refresh"
_CHUNK = 65_536
# Four heartbeats: a connection that is silent for longer is dead, and its thread has to end.
_SILENCE_S = 60.0


# How a service from before `next` refuses it: with a 400, word for word.
_UNKNOWN_NEXT = {
    "success": False,
    "error": {
        "code": "VALIDATION_FAILED",
        "message": "The request is not valid.",
        "details": {"fields": {"next": "is not a known field"}},
    },
}


@dataclass(frozen=True)
class Fault:
    """What happens to requests: a refusal in the service's place, an end without any answer, an answer that gets
    lost on its way back, or a wait for the end of the fault. Two make the service older than it is: it refuses or
    ignores the `next` of a completion.
    """

    kind: Literal["refuse", "drop", "lose-answer", "hold", "refuse-next", "ignore-next"]
    status: int = 503
    retry_after_s: int | None = None


@dataclass(frozen=True)
class Seen:
    """A request that came to the proxy; ``at`` is time.monotonic()."""

    method: str
    path: str
    body: bytes
    at: float


class Proxy:
    """A running reverse proxy of one service; a context manager."""

    def __init__(self, service_url: str, *, host: str = "127.0.0.1") -> None:
        """``host``: what browsers call it."""
        self.host = host
        target = urlsplit(service_url)
        self.target = (target.hostname or "", target.port or 80)
        self.changed = threading.Condition()
        self._seen: list[Seen] = []
        self._faults: dict[str, Fault] = {}
        self._streams: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self._faults.clear()
            self.changed.notify_all()
        self.cut_streams()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._server.server_port}"

    def seen(self, path: str, since: float = 0.0) -> list[Seen]:
        """The requests of this path, oldest first."""
        with self.changed:
            return [seen for seen in self._seen if seen.path == path and seen.at >= since]

    @contextmanager
    def broken(self, path: str, fault: Fault) -> Iterator[None]:
        """Requests of this path, or of every path, meet the fault; streams that are open stay so."""
        with self.changed:
            self._faults[path] = fault
        try:
            yield
        finally:
            with self.changed:
                self._faults.pop(path, None)
                self.changed.notify_all()

    def cut_streams(self) -> None:
        """Break the streams that are open now."""
        with self.changed:
            streams = list(self._streams)
        for stream in streams:
            with suppress(OSError):  # It ended by itself meanwhile.
                stream.shutdown(socket.SHUT_RDWR)

    # -- what the handler needs ----------------------------------------------------------

    def note(self, seen: Seen) -> None:
        with self.changed:
            self._seen.append(seen)

    def fault_of(self, path: str) -> Fault | None:
        """What this request meets, once nothing holds it any more."""
        with self.changed:
            self.changed.wait_for(lambda: not (found := self._find(path)) or found.kind != "hold", _SILENCE_S)
            return self._find(path)

    def _find(self, path: str) -> Fault | None:
        return self._faults.get(path) or self._faults.get(EVERYTHING)

    @contextmanager
    def listed(self, path: str, connection: socket.socket) -> Iterator[None]:
        """Have the connection among the open streams, if it is one."""
        if path != STREAM:
            yield
            return
        with self.changed:
            self._streams.add(connection)
        try:
            yield
        finally:
            with self.changed:
                self._streams.discard(connection)

    def _handler(self) -> type[_Handler]:
        return type("Handler", (_Handler,), {"proxy": self})


class _Server(ThreadingHTTPServer):
    # A browser asks for all modules of the page at once.
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    timeout = _SILENCE_S

    def do_GET(self) -> None:
        self._pass_on()

    do_POST = do_GET  # noqa: N815  # the base class's convention

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # the base class's signature
        """Nothing: the test's output is not an access log."""

    def _pass_on(self) -> None:
        # One request per connection: then its end is the answer's end, and bytes need no reading.
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.proxy.note(Seen(self.command, path, body, time.monotonic()))
        if path == BLANK:
            return self._answer(200, _BLANK_PAGE)
        fault = self.proxy.fault_of(path)
        if fault and fault.kind == "refuse":
            self._answer(fault.status, b"<h1>Not now</h1>", fault.retry_after_s)
        elif fault and fault.kind == "refuse-next" and "next" in json.loads(body):
            self._answer(400, json.dumps(_UNKNOWN_NEXT).encode(), content_type="application/json")
        elif fault is None or fault.kind not in ("drop", "hold"):
            if fault and fault.kind == "ignore-next":
                body = without_next(body)
            with suppress(OSError):  # Either side may leave at any time.
                self._forward(path, body, is_heard=not (fault and fault.kind == "lose-answer"))
        return None

    def _answer(
        self,
        status: int,
        page: bytes,
        retry_after_s: int | None = None,
        *,
        content_type: str = "text/html; charset=utf-8",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Connection", "close")
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.end_headers()
        self.wfile.write(page)

    def _forward(self, path: str, body: bytes, *, is_heard: bool) -> None:
        own = {"connection": "close", **({"content-length": str(len(body))} if body else {})}
        headers = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in own]
        headers += [f"{name}: {value}" for name, value in own.items()]
        head = "\r\n".join([self.requestline, *headers, "", ""])
        with (
            socket.create_connection(self.proxy.target, timeout=_SILENCE_S) as service,
            self.proxy.listed(path, self.connection),
        ):
            service.sendall(head.encode("latin-1") + body)
            while answer := self._next_bytes(service):
                if is_heard:
                    self.connection.sendall(answer)

    def _next_bytes(self, service: socket.socket) -> bytes:
        """What the service says next; nothing when either side has ended, or both are silent for too long."""
        readable, _, _ = select.select([service, self.connection], [], [], _SILENCE_S)
        # A browser that has said all it wanted can only leave.
        return service.recv(_CHUNK) if service in readable else b""


def without_next(body: bytes) -> bytes:
    return json.dumps({name: value for name, value in json.loads(body).items() if name != "next"}).encode()
