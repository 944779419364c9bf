"""HTTP as a client of one's own writes it: bytes as they are, for what no library would send."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.functional.client import Json

# A loaded machine needs some seconds; a service that waits for ever needs more.
ANSWER_WAIT_S = 20.0


@dataclass(frozen=True)
class RawAnswer:
    """The first answer on a connection, and whatever came behind it before its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes

    def json(self) -> Json:
        value: Json = json.loads(self.body)
        return value


def connect(url: str) -> socket.socket:
    target = urlsplit(url)
    return socket.create_connection((target.hostname or "", target.port or 80), timeout=ANSWER_WAIT_S)


def request(start: str, *headers: str, body: bytes = b"") -> bytes:
    """A request that asks for the connection's end, so that there is an end to the answer."""
    lines = [f"{start} HTTP/1.1", "Host: service.test", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def exchange(url: str, sent: bytes) -> RawAnswer:
    """Send these bytes and read until the service closes the connection. Raises TimeoutError when it doesn't."""
    with connect(url) as connection:
        connection.sendall(sent)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> RawAnswer:
    received = b""
    while chunk := _next(connection):
        received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    return RawAnswer(int(first.split()[1]), headers, rest[:length], rest[length:])


def _next(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        # Closed before all of what was sent had been read; the answer has come.
        return b""
