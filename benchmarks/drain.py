"""``python -m benchmarks.drain``: how fast one worker process settles what was accepted, and what an action costs.

A backlog in large messages, the same in small ones, and a steady flow through doorbells as
web processes have them. Rows are written straight to Postgres,
so every microsecond counted is one of settling and telling. No beat runs: nothing is swept.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

import click
import orjson
import psutil
import sqlalchemy as sa
from celery import Celery
from uuid_utils.compat import uuid7

from benchmarks.report import Latency
from scoreboard.live.connection import make_client
from scoreboard.live.queue.app import Ringer, make_celery
from scoreboard.live.queue.doorbell import BATCH_MAX, Doorbell
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.local import LocalServers
from scoreboard.local.supervisor import Supervisor
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.boards.build import rebuild_board
from scoreboard.services.upkeep.housekeeping import keep_house
from scoreboard.services.upkeep.seed import seed_players
from scoreboard.store import actions as action_store
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.migrate import upgrade
from tests.service import fresh_database, open_folder, start_process

# Settled before the clock counts: a worker process loads and connects with its first batches.
_WARM_UP = 2_000
# Between two looks at what is left; each is an index scan of an emptying index.
_LOOK_S = 0.05
# A worker that needs longer has stopped working.
_WAIT_S = 180.0
# The web processes of the steady flow, each with a doorbell of its own, and how often completions are committed.
_DOORBELLS = 2
_COMMITS_PER_S = 200
# Ids in a message while nothing waits: what one of two processes gathers in 50 ms at 600 actions a second.
_SMALL = 15
_INSERT_BATCH = 5_000
_COMPLETIONS: tuple[tuple[str, dict[str, str], int | None], ...] = (
    ("SOLVE_PROBLEM", {}, None),
    ("COMPLETE_LEVEL", {"difficulty": "medium", "levelId": "level-12"}, None),
    ("FINISH_ROUND", {"roundId": "round-7"}, 42),
)
_INSERT = sa.text(
    """
    INSERT INTO actions (id, user_id, action_type, metadata, token_hash, state, issued_at, expires_at, accepted_at,
                         completion_time_ms, reported_points, body_digest, ip, user_agent)
    SELECT id, user_id, action_type, metadata, token_hash, 'accepted', now() - interval '10 s',
           now() + interval '290 s', clock_timestamp(), 9000, points, token_hash, '198.51.100.7', 'benchmark'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:users AS uuid[]), CAST(:types AS text[]), CAST(:metadata AS jsonb[]),
                CAST(:hashes AS bytea[]), CAST(:points AS bigint[]))
         AS new (id, user_id, action_type, metadata, token_hash, points)
    """
)
_LATENCIES = sa.text(
    "SELECT extract(epoch FROM settled_at - accepted_at) * 1000 FROM actions WHERE id = ANY(CAST(:ids AS uuid[]))"
)
_SETTLEMENTS = sa.text("SELECT count(DISTINCT settlement_id) FROM actions WHERE id = ANY(CAST(:ids AS uuid[]))")


@dataclass(frozen=True, slots=True)
class Drained:
    """What settling ``actions`` took; CPU in microseconds per action, by kind of process."""

    name: str
    actions: int
    players: int
    per_batch: int
    seconds: float
    actions_per_s: float
    cpu_us: dict[str, float]
    # Milliseconds from 202 to settled, where actions came at a steady rate.
    settled_ms: Latency | None


class Drain:
    """A migrated database with players, a Valkey, and a worker that waits."""

    def __init__(self, database: Database, celery: Celery, local: LocalServers, players: Sequence[UUID]) -> None:
        self._database, self._ring, self._local = database, Ringer(celery), local
        self._doorbells = [Doorbell(self._ring) for _ in range(_DOORBELLS)]
        self._players = players

    def backlog(self, count: int, *, per_message: int = BATCH_MAX) -> Drained:
        """Everything is there before the first message is sent."""
        ids = self.insert(count)
        before, started_at = self._cpu_s(), time.monotonic()
        for start in range(0, count, per_message):
            self._ring(ids[start : start + per_message])
        self.wait_until_told()
        return self._result("backlog", count, per_message, time.monotonic() - started_at, before, None)

    def flow(self, rate: int, seconds: float) -> Drained:
        """So many actions a second in even steps, told through doorbells as web processes have them."""
        step = max(1, round(rate / _COMMITS_PER_S))
        count = round(rate * seconds / step) * step
        before, started_at = self._cpu_s(), time.monotonic()
        ids: list[UUID] = []
        for number in range(count // step):
            time.sleep(max(0.0, started_at + number * step / rate - time.monotonic()))
            committed = self.insert(step)
            doorbell = self._doorbells[number % _DOORBELLS]
            for action_id in committed:
                doorbell.ring(action_id)
            ids += committed
        self.wait_until_told()
        took = time.monotonic() - started_at
        with self._database.read() as connection:
            delays = connection.execute(_LATENCIES, {"ids": ids}).scalars().all()
            messages = connection.execute(_SETTLEMENTS, {"ids": ids}).scalar_one()
        return self._result(f"{rate}/s", count, count // messages, took, before, Latency.of(map(float, delays)))

    def insert(self, count: int) -> list[UUID]:
        """Accepted actions of random players, few enough of each to look honest."""
        ids = [uuid7() for _ in range(count)]
        with self._database.write() as connection:
            for start in range(0, count, _INSERT_BATCH):
                self._insert(connection, ids[start : start + _INSERT_BATCH])
        return ids

    def _insert(self, connection: sa.Connection, ids: Sequence[UUID]) -> None:
        completions = [random.choice(_COMPLETIONS) for _ in ids]
        connection.execute(
            _INSERT,
            {
                "ids": ids,
                "users": [random.choice(self._players) for _ in ids],
                "types": [type_ for type_, _, _ in completions],
                "metadata": [orjson.dumps(metadata).decode() for _, metadata, _ in completions],
                "hashes": [hashlib.sha256(id_.bytes).digest() for id_ in ids],
                "points": [points for _, _, points in completions],
            },
        )

    def wait_until_told(self) -> None:
        """Return when everything is settled and announced."""
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            with self._database.read() as connection:
                left = action_store.measure_backlog(connection)
            if not left.unsettled and not left.unannounced:
                return
            time.sleep(_LOOK_S)
        raise TimeoutError(f"after {_WAIT_S:.0f} s there are {left.unsettled} actions to settle")

    def _result(
        self, name: str, count: int, per_batch: int, seconds: float, before: dict[str, float], latency: Latency | None
    ) -> Drained:
        used = {kind: round((now - before[kind]) / count * 1e6, 1) for kind, now in self._cpu_s().items()}
        return Drained(
            name, count, len(self._players), per_batch, round(seconds, 2), round(count / seconds), used, latency
        )

    def _cpu_s(self) -> dict[str, float]:
        """CPU seconds so far; the benchmark's own session with Postgres counts for nobody."""
        with self._database.read() as connection:
            own = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        return {
            "worker": sum(family_cpu_s(child) for child in psutil.Process().children() if _is_worker(child)),
            "postgres": family_cpu_s(psutil.Process(self._local.postgres.pid), without=own),
            "valkey": family_cpu_s(psutil.Process(self._local.valkey.pid)),
        }


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("workers.celery_app" in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # also one that has ended and not been waited for
        return False


def family_cpu_s(process: psutil.Process, *, without: int | None = None) -> float:
    """CPU seconds of a process, its living children and those that have ended."""
    total = 0.0
    for member in [process, *process.children()]:
        if member.pid != without:
            times = member.cpu_times()
            total += times.user + times.system
            total += times.children_user + times.children_system if member == process else 0.0
    return total


@contextmanager
def prepared(local: LocalServers, folder: Path, players: int, **environment: str) -> Iterator[Drain]:
    """A fresh database with players, an emptied Valkey and one warmed-up worker process."""
    with ExitStack() as closing:
        url = fresh_database(local.database_url)
        url_with_driver = url.replace("postgresql://", "postgresql+psycopg2://")
        upgrade(url_with_driver)
        # One session, so that its cost can be left out.
        database = Database(make_engine(url_with_driver, 1, name="benchmark"))
        closing.callback(database.dispose)
        client = make_client(local.redis_url)
        client.flushall()
        keep_house(database)
        prefix = "benchmark"
        batches = seed_players(
            database, Passwords(), count=players, prefix=prefix, password=prefix, session_ttl_s=3_600
        )
        ids = [UUID(player.user_id) for batch in batches for player in batch]
        rebuild_board(database, Standings(client), EventLog(client))
        supervisor = Supervisor(lambda _line: None)
        closing.callback(supervisor.stop)
        settings = {"DATABASE_URL": url, "REDIS_URL": local.redis_url, "SCOREBOARD_DATA": str(folder / "data")}
        metrics = folder / "metrics"
        metrics.mkdir(parents=True, exist_ok=True)
        settings |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics), "WORKER_CONCURRENCY": "1", **environment}
        start_process(supervisor, "worker", settings)
        drain = Drain(database, make_celery(local.redis_url), local, ids)
        drain.backlog(_WARM_UP)
        yield drain


def run(
    local: LocalServers,
    folder: Path,
    *,
    actions: int = 20_000,
    players: int = 20_000,
    rate: int = 600,
    flow_s: float = 10,
) -> list[Drained]:
    """The backlog in full messages, the backlog in small ones, and a steady flow."""
    with prepared(local, folder, players) as drain:
        return [drain.backlog(actions), drain.backlog(actions, per_message=_SMALL), drain.flow(rate, flow_s)]


def table(found: Sequence[Drained]) -> str:
    """One line a run; CPU in µs per action."""
    names = ("actions", "per batch", "per s", "worker", "postgres", "valkey", "settled p50/p95")
    lines = [" " * 10 + "".join(f"{name:>{max(9, len(name) + 3)}}" for name in names)]
    for drained in found:
        latency = f"{drained.settled_ms.p50}/{drained.settled_ms.p95} ms" if drained.settled_ms else "-"
        cpu = drained.cpu_us
        lines.append(
            f"{drained.name:10}{drained.actions:10,}{drained.per_batch:12}{drained.actions_per_s:9,}"
            f"{cpu['worker']:9}{cpu['postgres']:11}{cpu['valkey']:9}{latency:>18}"
        )
    return "\n".join(lines)


@click.command()
@click.option("--actions", type=click.IntRange(200, 1_000_000), default=20_000, show_default=True, help="To settle.")
@click.option("--players", type=click.IntRange(100, 1_000_000), default=20_000, show_default=True, help="Who did them.")
@click.option("--rate", type=click.IntRange(10, 10_000), default=600, show_default=True, help="Actions a second.")
@click.option("--seconds", type=click.IntRange(1, 600), default=10, show_default=True, help="Of the steady flow.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def main(actions: int, players: int, rate: int, seconds: int, as_json: bool) -> None:
    """Settle accepted actions with one worker process."""
    with open_folder() as folder, LocalServers(folder) as local:
        found = run(local, folder, actions=actions, players=players, rate=rate, flow_s=seconds)
    click.echo(orjson.dumps([asdict(drained) for drained in found]).decode() if as_json else table(found))


if __name__ == "__main__":
    main()
