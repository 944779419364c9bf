"""The three servers that are measured, each with the way a change gets to it."""

from __future__ import annotations

import shlex
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

import psutil
import redis
from flask_sse import sse

from benchmarks import stock
from benchmarks.crowd import Address
from benchmarks.floor import CHANNEL
from benchmarks.usage import descendants, wait_until_idle
from config import ROOT, environment_with
from scoreboard.domain.standings import TOP_SIZE, Board, BoardEntry, Standing, microseconds
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.local.servers import free_port
from scoreboard.local.supervisor import Supervisor
from scoreboard.services.boards.publish import entries_after
from scoreboard.wire.encoding import to_json
from scoreboard.wire.events import UPDATE, UpdatedUser, board_updated
from tests.service import Service

PROCESSES = 2
STREAM_PATH = "/v1/leaderboard/stream"
_START_WAIT_S = 20.0
_POLL_S = 0.05
_INCREMENT = 10
# Above any version that Postgres gave out, so that Redis takes the change without a ledger behind it.
_FIRST_VERSION = 1_000_000
# The streams of one stock process, and room for its own connections.
_STOCK_CONNECTIONS = 4_000


@dataclass(frozen=True, slots=True)
class Change:
    """One published change: the version that shows it, and when (monotonic ns) publishing began."""

    version: int
    at: int


class Server(Protocol):
    """What is measured."""

    name: str
    address: Address

    def change(self) -> Change:
        """Change the top ten once and publish it."""
        ...

    def processes(self) -> list[psutil.Process]:
        """Those that hold the streams."""
        ...

    def wait_for_streams(self, count: int) -> None:
        """Return when so many streams would get what is published; the crowd has opened them."""
        ...


class Rotation:
    """Ten players who overtake each other: at each turn the last becomes the first."""

    def __init__(self, players: list[Standing]) -> None:
        self._players = deque(players)

    def turn(self) -> Standing:
        best, last = self._players[0], self._players.pop()
        mover = replace(
            last, score=best.score + _INCREMENT, reached_at=datetime.now(UTC), version=last.version + _FIRST_VERSION
        )
        self._players.appendleft(mover)
        return mover

    def payload(self, mover: Standing, version: int) -> bytes:
        """The data of the service's own board event, for servers that don't build it themselves."""
        entries = tuple(
            BoardEntry(rank, player.user_id, player.username, player.score, player.reached_at)
            for rank, player in enumerate(self._players, start=1)
        )
        updated = UpdatedUser(userId=mover.user_id, oldRank=TOP_SIZE, newRank=1, scoreChange=_INCREMENT)
        return to_json(board_updated(Board(entries, 1_000, version), updated).data)


def made_up_players() -> list[Standing]:
    """Ten players as `scoreboard seed` names them."""
    now = datetime.now(UTC)
    return [Standing(uuid4(), f"player-abcdef-{n:06d}", 1_000 - n, now, 1, True) for n in range(1, TOP_SIZE + 1)]


class Ours:
    """The service itself; changes take the way that a settled batch takes after its commit."""

    name = "scoreboard"

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = int(service.url.rpartition(":")[2])
        self.address = Address(self.port, STREAM_PATH, greets=True)
        client = make_client(service.redis_url)
        self._standings, self._events = Standings(client), EventLog(client)
        made = service.run("seed", "--users", "1000")
        if made.returncode:
            raise RuntimeError(f"no players could be made:\n{made.stdout}{made.stderr}")
        top = self._standings.read(offset=0, limit=TOP_SIZE)
        if top is None:
            raise RuntimeError("the board is not whole after seeding")
        self._rotation = Rotation(
            [Standing(row.user_id, row.username, 1_000, row.updated_at, 1, True) for row in top.board.entries]
        )
        for _ in range(TOP_SIZE):
            self.change()

    def change(self) -> Change:
        mover = self._rotation.turn()
        at = time.monotonic_ns()
        applied = self._standings.apply([mover])
        self._events.publish(entries_after(applied, {mover.user_id: _INCREMENT}))
        return Change(applied.version, at)

    def processes(self) -> list[psutil.Process]:
        return descendants("app:create_app()")

    def wait_for_streams(self, count: int) -> None:
        """Each has had its first event, so each is registered."""


class Floor:
    """Bare write loops, fed by pub/sub with a payload that is ready."""

    name = "bare loop"

    def __init__(self, port: int, client: redis.Redis) -> None:
        self.address = Address(port, "/", greets=True)
        self._client = client
        self._rotation = Rotation(made_up_players())

    def change(self) -> Change:
        version = microseconds(datetime.now(UTC))
        payload = self._rotation.payload(self._rotation.turn(), version)
        at = time.monotonic_ns()
        self._client.publish(CHANNEL, payload)
        return Change(version, at)

    def processes(self) -> list[psutil.Process]:
        return descendants("benchmarks.floor")

    def wait_for_streams(self, count: int) -> None:
        """Each has been greeted, so each is in the list."""


class Stock:
    """flask-sse 1.0.0, told through its own ``publish``."""

    name = "flask-sse"

    def __init__(self, port: int, redis_url: str, client: redis.Redis) -> None:
        self.address = Address(port, "/stream", greets=False)
        self._app = stock.create_app(redis_url)
        self._client = client
        self._rotation = Rotation(made_up_players())

    def change(self) -> Change:
        version = microseconds(datetime.now(UTC))
        payload = self._rotation.payload(self._rotation.turn(), version).decode()
        with self._app.app_context():
            at = time.monotonic_ns()
            sse.publish(payload, type=UPDATE)
        return Change(version, at)

    def processes(self) -> list[psutil.Process]:
        return descendants("benchmarks.stock:create_app")

    def wait_for_streams(self, count: int) -> None:
        """Every stream has a subscription of its own."""
        _wait(lambda: _subscribers(self._client) >= count, f"flask-sse did not open {count} streams")


@contextmanager
def running_floor(redis_url: str) -> Iterator[Floor]:
    port = free_port()
    lines: deque[str] = deque(maxlen=50)
    supervisor = Supervisor(lines.append)
    try:
        for _ in range(PROCESSES):
            command = [sys.executable, "-m", "benchmarks.floor", str(port), redis_url]
            supervisor.start("floor", shlex.join(command), env=environment_with(), cwd=ROOT)
        _wait(lambda: sum("ready" in line for line in lines) == PROCESSES, "the bare loop did not start", lines)
        yield Floor(port, redis.Redis.from_url(redis_url))
    finally:
        supervisor.stop()


@contextmanager
def running_stock(redis_url: str) -> Iterator[Stock]:
    port = free_port()
    lines: deque[str] = deque(maxlen=50)
    supervisor = Supervisor(lines.append)
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gevent", "--workers", str(PROCESSES)]
    # One second of grace: its streams never end by themselves.
    command += ["--worker-connections", str(_STOCK_CONNECTIONS), "--graceful-timeout", "1", "--bind"]
    command += [f"127.0.0.1:{port}", "--no-control-socket", f"benchmarks.stock:create_app({redis_url!r})"]
    try:
        supervisor.start("stock", shlex.join(command), env=environment_with(), cwd=ROOT)
        _wait(lambda: sum("Booting worker" in line for line in lines) == PROCESSES, "flask-sse did not start", lines)
        _wait(lambda: _listens(port), "flask-sse does not listen", lines)
        server = Stock(port, redis_url, redis.Redis.from_url(redis_url))
        # It listens before its workers have loaded it, and says nothing when they have.
        wait_until_idle(server.processes())
        yield server
    finally:
        supervisor.stop()


def _subscribers(client: redis.Redis) -> int:
    counts = client.pubsub_numsub("sse")
    return int(counts[0][1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(is_done: Callable[[], bool], complaint: str, lines: deque[str] | None = None) -> None:
    deadline = time.monotonic() + _START_WAIT_S
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError("\n".join([complaint, *(lines or ())]))
        time.sleep(_POLL_S)
