"""An application that answers with what it was given, so that two servers can be compared by what they understood."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from scoreboard.web.server.admission import Admission

# What differs from connection to connection, or cannot be written down.
_VOLATILE = frozenset({"REMOTE_PORT", "SERVER_PORT", "gunicorn.socket", "wsgi.input", "wsgi.errors",
                       "wsgi.file_wrapper",
                       "wsgi.early_hints"})  # fmt: skip
# How long the slow answer takes, and what no socket's buffers take at once.
SLOW_S = 1.5
LARGE_BYTES = 20_000_000
_TEXT = ("Content-Type", "text/plain")


def _echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    # A body beyond the limit stays unread, as in the service.
    body = environ["wsgi.input"].read(length) if length <= 65_537 else b"unread"
    seen = {name: repr(value) for name, value in environ.items() if name not in _VOLATILE}
    answer = json.dumps({**seen, "body": body.decode("latin-1")}, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def _chunks(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    start_response("200 OK", [_TEXT])
    yield b"one"
    yield b""
    yield b"two" * 20


def _written(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    write = start_response("200 OK", [_TEXT, ("Content-Length", "9")])
    write(b"wri")
    return [b"tten", b" and more than that"]


def _empty(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("204 No Content", [("Content-Length", "0")])
    return []


def _not_modified(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("304 Not Modified", [("ETag", '"x"'), ("Content-Length", "12"), ("Connection", "close")])
    return [b"not to be sent"]


def _short(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [_TEXT, ("Content-Length", "10")])
    return [b"short"]


def _broken(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    raise RuntimeError("as the application may")


def _broken_later(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    start_response("200 OK", [_TEXT])
    yield b"begun"
    raise RuntimeError("as the application may")


def _split(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("X-Evil", "a\r\nSet-Cookie: b")])
    return [b"no"]


def _slow(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    time.sleep(SLOW_S)
    start_response("200 OK", [_TEXT, ("Content-Length", "4")])
    return [b"slow"]


def _large(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [_TEXT, ("Content-Length", str(LARGE_BYTES))])
    return [b"a" * LARGE_BYTES]


_ROUTES = {
    "/slow": _slow,
    "/large": _large,
    "/chunks": _chunks,
    "/written": _written,
    "/empty": _empty,
    "/unchanged": _not_modified,
    "/short": _short,
    "/broken": _broken,
    "/broken-later": _broken_later,
    "/split": _split,
}


def _route(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    return _ROUTES.get(environ["PATH_INFO"], _echo)(environ, start_response)


class Application:
    """What the worker expects of the service's own: admission with its bodies, settings, a hub."""

    def __init__(self) -> None:
        self._gated = Admission(200).gate(_route)
        hub = SimpleNamespace(streams=0, stop=lambda spread_s: None)  # noqa: ARG005  # the hub's signature
        self.extensions = {"scoreboard": SimpleNamespace(hub=hub, settings=SimpleNamespace(is_production=False))}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self._gated(environ, start_response)


application = Application()
