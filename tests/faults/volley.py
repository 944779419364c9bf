"""Requests of which all but the last byte is under way, so that the last bytes make them arrive at the same moment."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from benchmarks.spread import open_spread
from tests.faults.driver import Driver
from tests.service import Service

# The answers of a hundred that come at once, on cores that others keep busy; the service itself gives up after 20 s.
_ANSWER_S = 60.0


@dataclass(frozen=True)
class Shot:
    """One POST: who sends it, where to, and what."""

    path: str
    token: str
    body: object
    prefer: str = ""

    def encode(self) -> bytes:
        body = json.dumps(self.body).encode()
        head = [
            f"POST {self.path} HTTP/1.1",
            "Host: test",
            f"Authorization: Bearer {self.token}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *([f"Prefer: {self.prefer}"] if self.prefer else []),
        ]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """The error's code; empty for a success."""
        return str(self.body.get("error", {}).get("code", ""))


def fire(service: Service, driver: Driver, shots: Sequence[Shot]) -> list[Answer]:
    """Send all at the same moment, evenly over the web processes; the answers in the order of the shots."""
    pids = [process.pid for process in driver.children("web")]
    assert len(pids) >= 2, "one process alone is no race between processes"
    return fire_over(open_spread(urlsplit(service.url).port or 0, len(shots), pids), shots)


def fire_over(connections: Sequence[socket.socket], shots: Sequence[Shot]) -> list[Answer]:
    """The same over connections that are open already; they are closed at the end."""
    try:
        requests = [shot.encode() for shot in shots]
        for connection, request in zip(connections, requests, strict=True):
            connection.settimeout(_ANSWER_S)
            connection.sendall(request[:-1])
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[-1:])
        return [_read(connection) for connection in connections]
    finally:
        for connection in connections:
            connection.close()


def fire_at(urls: Sequence[str], shots: Sequence[Shot]) -> list[Answer]:
    """The same at several addresses in turn, whichever processes answer there."""
    places = [urlsplit(url) for url, _ in zip(cycle(urls), shots, strict=False)]
    return fire_over([socket.create_connection((each.hostname, each.port), _ANSWER_S) for each in places], shots)


def _read(connection: socket.socket) -> Answer:
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = json.loads(response.read())
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
