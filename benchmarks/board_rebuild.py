"""Seeding a database, and refilling its board in Redis while the service answers and scores change."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import redis
import sqlalchemy as sa

from benchmarks.api_load import ApiLoad
from benchmarks.report import Latency
from config import ROOT, environment_with
from scoreboard.domain.standings import TOP_SIZE
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.store import board
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.tables import users
from scoreboard.store.users import take_standings
from tests.service import Service

# The board as it is before, for comparison.
_BEFORE_S = 3.0
# What a rebuild may take before the benchmark gives it up.
_REBUILD_MAX_S = 300
_SEED_MAX_S = 900
_POLL_S = 0.005
_WRITES_PER_S = 50
# Players whose scores change meanwhile.
_MOVING = 500
# Rows compared at the top, in the middle and at the end.
_COMPARED = 200
# Scores as in play, few high and many low, reached in another order than the players came.
_GIVE_POINTS = """
    UPDATE users SET score = floor(-ln(1 - random()) * 20000), standing_version = standing_version + 1,
                     score_reached_at = created_at + random() * interval '30 days'
"""


@dataclass(frozen=True, slots=True)
class SeedTime:
    """What ``scoreboard seed`` took from start to end, the board in Redis included."""

    players: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuild beside 100 reads of the board and 50 changed scores a second."""

    players: int
    # How long PostgreSQL answered instead.
    seconds: float
    reads_before: Latency | None
    reads: Latency | None
    read_errors: int
    # Of the standings' write alone, in Redis.
    writes_before: Latency | None
    writes: Latency | None
    # What Redis then shows differs from PostgreSQL.
    problem: str | None


def measure_seed(service: Service, players: int, tokens: Path) -> SeedTime:
    """Seed so many players with tokens; raises RuntimeError when it fails or tokens are missing."""
    started_at = time.monotonic()
    _run(service, _SEED_MAX_S, "seed", "--users", str(players), "--tokens", str(tokens))
    seconds = time.monotonic() - started_at
    with tokens.open(encoding="utf-8") as lines:
        written = sum(1 for _ in lines)
    if written != players:
        raise RuntimeError(f"{written} tokens for {players} players")
    return SeedTime(players, round(seconds, 1))


def measure_rebuild(service: Service, players: int) -> Rebuilt:
    """Give the players points and rebuild the board, while it is read over HTTP and written to."""
    url = service.database_url.replace("postgresql://", "postgresql+psycopg2://")
    database = Database(make_engine(url, 3, name="bench"))
    client = make_client(service.redis_url)
    standings = Standings(client)
    _give_points(database)
    port = int(service.url.rpartition(":")[2])
    with ApiLoad(port) as reads, Writer(database, standings) as writer:
        reads.start()
        time.sleep(_BEFORE_S)
        reads_before, writes_before = reads.stop(), writer.take()
        reads.start()
        seconds = _time_rebuild(service, client)
        reads_during, writes = reads.stop(), writer.take()
    problem = _difference(database, standings)
    database.dispose()
    return Rebuilt(
        players,
        round(seconds, 2),
        Latency.of(reads_before.latencies_ms),
        Latency.of(reads_during.latencies_ms),
        reads_before.errors + reads_during.errors,
        Latency.of(writes_before),
        Latency.of(writes),
        problem,
    )


class Writer:
    """Changes scores at an even rhythm, first in PostgreSQL and then on the board, as settling does."""

    def __init__(self, database: Database, standings: Standings) -> None:
        self._database, self._standings = database, standings
        with database.read() as connection:
            found = connection.execute(sa.select(users.c.id).limit(_MOVING)).scalars()
            self._players: list[UUID] = list(found)
        self._taken_ms: list[float] = []
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        if self._error:
            raise self._error

    def take(self) -> list[float]:
        """Milliseconds of each write since the last call."""
        taken, self._taken_ms = self._taken_ms, []
        return taken

    def _run(self) -> None:
        number = 0
        try:
            while not self._stopping.wait(1 / _WRITES_PER_S):
                self._write(self._players[number % len(self._players)])
                number += 1
        except Exception as error:  # raised again by the caller that ends this
            self._error = error

    def _write(self, player: UUID) -> None:
        change = sa.update(users).where(users.c.id == player)
        values = {
            "score": users.c.score + 100,
            "score_reached_at": sa.func.clock_timestamp(),
            "standing_version": users.c.standing_version + 1,
        }
        with self._database.write() as connection:
            connection.execute(change.values(values))
        with self._database.read() as connection:
            changed = take_standings(connection, [player])
        started_at = time.perf_counter()
        self._standings.apply(changed)
        self._taken_ms.append((time.perf_counter() - started_at) * 1e3)


def _give_points(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text(_GIVE_POINTS))
    with database.primary.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SET statement_timeout = 0"))
        connection.execute(sa.text("VACUUM (ANALYZE) users"))
        connection.invalidate()


def _time_rebuild(service: Service, client: redis.Redis) -> float:
    """Seconds without a whole board."""
    with _watch(client) as gaps:
        _run(service, _REBUILD_MAX_S, "rebuild")
    if len(gaps) != 1:
        raise RuntimeError(f"the board was rebuilt {len(gaps)} times")
    return gaps[0]


@contextmanager
def _watch(client: redis.Redis) -> Iterator[list[float]]:
    """How long the board was not whole, each time."""
    gaps: list[float] = []
    stopping = threading.Event()
    marker = "sb:{all}:whole"

    def look() -> None:
        began_at: float | None = None
        while not stopping.wait(_POLL_S) or began_at is not None:
            now, is_whole = time.monotonic(), client.exists(marker)
            if is_whole and began_at is not None:
                gaps.append(now - began_at)
                began_at = None
            elif not is_whole and began_at is None:
                began_at = now

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield gaps
    finally:
        stopping.set()
        thread.join(timeout=1)


def _run(service: Service, most_s: int, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scoreboard", *arguments],
        cwd=ROOT,
        env=environment_with(**service.settings_env),
        capture_output=True,
        text=True,
        timeout=most_s,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"scoreboard {arguments[0]} failed:\n{done.stdout}{done.stderr}")


def _difference(database: Database, standings: Standings) -> str | None:
    """What differs between the board in Redis and that in PostgreSQL, in number or in any of three slices."""
    with database.read() as connection:
        players = board.count_players(connection)
        for offset in (0, players // 2, max(0, players - _COMPARED)):
            found = standings.read(offset=offset, limit=_COMPARED)
            if found is None:
                return "the board is not whole"
            if found.board.total_players != players:
                return f"{found.board.total_players} players in Redis, {players} in PostgreSQL"
            if found.board.entries != board.read_board(connection, offset=offset, limit=_COMPARED).entries:
                return f"other rows from place {offset + 1}"
    top = standings.read(offset=0, limit=TOP_SIZE)
    return None if top and len(top.board.entries) == min(TOP_SIZE, players) else "the top is short"
