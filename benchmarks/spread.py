"""Connections spread evenly over a server's processes, as a balancer would: chance alone gives one of them the more."""

from __future__ import annotations

import math
import socket
import time
from collections import defaultdict
from collections.abc import Sequence

import psutil

# Half of what is opened has to be closed again in a bad draw; so many draws in a row are not bad luck.
_ROUNDS_MAX = 30
# A process that is busy with its start accepts within this.
_ACCEPT_WAIT_S = 10.0
_CONNECT_WAIT_S = 10.0
_LOOK_S = 0.02


def open_spread(port: int, count: int, pids: Sequence[int]) -> list[socket.socket]:
    """So many connections, each process holding its share, in turn. Raises TimeoutError, OSError."""
    share = math.ceil(count / len(pids))
    held: dict[int, list[socket.socket]] = {pid: [] for pid in pids}
    try:
        for _ in range(_ROUNDS_MAX):
            missing = count - sum(len(share) for share in held.values())
            if not missing:
                return [connection for group in zip(*held.values(), strict=False) for connection in group] + _odd_ones(
                    held
                )
            opened = [_connect(port) for _ in range(missing)]
            for pid, connections in _by_holder(opened, pids).items():
                room = share - len(held[pid])
                held[pid] += connections[:room]
                for surplus in connections[room:]:
                    surplus.close()
    except BaseException:
        for connections in held.values():
            for connection in connections:
                connection.close()
        raise
    raise TimeoutError(f"{count} connections could not be spread over {len(pids)} processes")


def _odd_ones(held: dict[int, list[socket.socket]]) -> list[socket.socket]:
    """What an uneven number leaves over."""
    least = min(len(share) for share in held.values())
    return [connection for share in held.values() for connection in share[least:]]


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), _CONNECT_WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


def _by_holder(opened: list[socket.socket], pids: Sequence[int]) -> dict[int, list[socket.socket]]:
    """Which process has accepted which of them."""
    deadline = time.monotonic() + _ACCEPT_WAIT_S
    by_port = {connection.getsockname()[1]: connection for connection in opened}
    while True:
        found = defaultdict(list)
        for pid in pids:
            for held in psutil.Process(pid).net_connections("tcp"):
                if getattr(held.raddr, "port", None) in by_port:
                    found[pid].append(by_port[held.raddr.port])
        if sum(len(share) for share in found.values()) == len(opened):
            return found
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not accept connections")
        time.sleep(_LOOK_S)
