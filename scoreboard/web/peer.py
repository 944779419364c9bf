"""The socket behind a stream: bounded buffers, bounded writes, and a hang-up noticed at once."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey

# Bytes the kernel may hold for a browser that doesn't read: a few boards.
_SEND_BUFFER_BYTES = 65_536
# A browser that has not taken a byte for so long has stopped reading.
_WRITE_TIMEOUT_S = 30.0
_READABLE = 1


def bound_socket(environ: dict[str, Any], on_hang_up: Callable[[], None]) -> Callable[[], None]:
    """Bound what a browser can cost, and call ``on_hang_up`` when it goes; returns how to stop watching.

    Where the server hands over no socket nothing is done: a hang-up shows at the next write.
    """
    connection = environ.get("gunicorn.socket")
    if connection is None or not monkey.is_module_patched("socket"):
        return lambda: None
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    connection.settimeout(_WRITE_TIMEOUT_S)
    # A watcher of the event loop, not a greenlet: a stream that only waits costs some hundred bytes.
    watcher = gevent.get_hub().loop.io(connection.fileno(), _READABLE)

    def stop() -> None:
        watcher.stop()
        watcher.close()

    def look() -> None:
        # An EventSource sends nothing after its request: what is readable is the end, or an error.
        try:
            has_ended = connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return
        except OSError:
            has_ended = True
        watcher.stop()
        if has_ended:
            on_hang_up()

    watcher.start(look)
    return stop
