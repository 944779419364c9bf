"""Health for operators: the state of each part, and counts of accounts and unfinished work."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import redis

from scoreboard.live.connection import REFUSED, probe_redis, reason_of, redis_time, text
from scoreboard.live.connection import UNAVAILABLE as REDIS_UNAVAILABLE
from scoreboard.live.standings import Standings
from scoreboard.store import actions, users
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.engine import Database
from scoreboard.store.fitness import READ_ONLY, misfit, probe_writes, read_state
from scoreboard.store.refusals import TABLES_HELD, ServerRefuses, is_lock_timeout
from scoreboard.store.replica import Replica, read_written
from scoreboard.store.timeouts import answer_timeout

_WORKER_SEEN = "sb:worker:seen"
# Workers sweep every two seconds; after so long without one, no worker is there.
WORKER_SILENT_S = 15
# An accepted action older than this says that the workers don't keep up.
_UNSETTLED_LATE_S = 30
# A load balancer asks every few seconds; a Postgres that takes longer for an index lookup is not well.
_HEALTH_S = 3.0


Health = Literal["ok", "degraded", "down"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part's state: ok, degraded or down."""

    status: Health
    latency_ms: float | None = None
    detail: str | None = None


class BoardWatch:
    """Remembers, between two checks in this process, since when the board has not been whole."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None

    def look(self, standings: Standings) -> Part:
        """The part "board": ok when Redis holds it whole. Otherwise PostgreSQL serves it."""
        try:
            progress = standings.progress()
        except REDIS_UNAVAILABLE as error:
            return Part("degraded", None, f"{self._not_whole_for()} (Redis: {reason_of(error)})")
        if progress.is_whole:
            self._since = None
            return Part("ok", None, "whole")
        if progress.filling_for_s is not None:
            self._not_whole_for()
            return Part("degraded", None, f"being filled since {progress.filling_for_s} s")
        return Part("degraded", None, self._not_whole_for())

    def _not_whole_for(self) -> str:
        now = self._clock()
        self._since = now if self._since is None else self._since
        return f"not whole for {now - self._since:.0f} s"


def note_worker(client: redis.Redis) -> None:
    """A worker says that it is there, by the clock of Redis: others read it, and their own may be minutes away."""
    client.set(_WORKER_SEEN, f"{redis_time(client):.3f}", ex=WORKER_SILENT_S * 40)


def check_postgres(database: Database) -> Part:
    """Check what the service can't work without: Postgres answers, is migrated, and takes writes."""
    return _postgres(database)[0]


def check_readiness(database: Database, standings: Standings) -> Health:
    """ok; degraded while the board can be read but nothing written; down when callers should be sent elsewhere.

    An unfit database is down: no process with these settings can serve, and an operator has to mend it before callers
    come. A database that doesn't answer, or takes no writes, is so for all processes alike.
    """
    part, is_misfit = _postgres(database)
    if part.status == "ok":
        return "ok"
    if is_misfit:
        return "down"
    try:
        return "degraded" if standings.is_whole() else "down"
    except REDIS_UNAVAILABLE:
        return "down"


def check_parts(
    database: Database,
    client: redis.Redis,
    standings: Standings,
    broker_length: Callable[[], int],
    board: BoardWatch,
) -> dict[str, Part]:
    """Each part with its latency; asks all parts at once, so that two that are down cost no more than one.

    ``broker_length`` writes something to the broker and says how many messages wait.
    """
    questions: dict[str, Callable[[], Part]] = {
        "postgres": lambda: check_postgres(database),
        "redis": lambda: _timed(lambda: probe_redis(client), REDIS_UNAVAILABLE),
        "broker": lambda: _timed(broker_length, (Exception,), "messages waiting"),
        "board": lambda: board.look(standings),
        "workers": lambda: _workers(client),
        "unsettled": lambda: _unsettled(database),
    }
    replica = database.replica
    if replica is not None:
        questions["replica"] = lambda: _replica(database, replica)
    with ThreadPoolExecutor(len(questions)) as pool:
        return dict(zip(questions, pool.map(lambda ask: ask(), questions.values()), strict=True))


def overall(parts: dict[str, Part]) -> Health:
    """Down without Postgres, degraded when anything else is not well."""
    if parts["postgres"].status != "ok":
        return "down"
    return "ok" if all(part.status == "ok" for part in parts.values()) else "degraded"


def count_accounts(database: Database) -> dict[str, int]:
    """Accounts by status."""
    return database.read_stale(users.count_by_status)


def read_backlog(database: Database) -> actions.Backlog:
    with answer_timeout(_HEALTH_S), database.read() as connection:
        return actions.measure_backlog(connection)


def _postgres(database: Database) -> tuple[Part, bool]:
    """The part, and whether the database has to be mended: waiting for it does not help."""
    started_at = time.perf_counter()
    try:
        with answer_timeout(_HEALTH_S), database.read() as connection:
            state = read_state(connection)
            problem = misfit(state)
            if problem is None and not state.is_read_only:
                probe_writes(connection)
    except POSTGRES_UNAVAILABLE as error:
        return Part("down", None, _in_words(error)), False
    latency_ms = round((time.perf_counter() - started_at) * 1000, 2)
    if state.is_read_only:
        # The pool may still lead to a server that was the primary before a failover.
        database.renew()
    refused = database.refused_write()
    if problem is None and state.is_read_only:
        return Part("down", latency_ms, READ_ONLY), False
    if problem is None and refused is not None:
        return Part("down", latency_ms, refused.meaning.words), False
    return Part("down" if problem else "ok", latency_ms, problem), problem is not None


def _replica(database: Database, replica: Replica) -> Part:
    """Degraded when its data are too old; reads then go to the primary."""
    try:
        with answer_timeout(_HEALTH_S), database.read() as connection:
            written = read_written(connection)
    except POSTGRES_UNAVAILABLE:
        # Shown as a part of its own; whether the replica is late can't be said then.
        written = None
    started_at = time.perf_counter()
    try:
        problem = replica.check(written)
    except POSTGRES_UNAVAILABLE as error:
        return Part("down", None, _in_words(error))
    return Part("degraded" if problem else "ok", _since_ms(started_at), problem)


def _in_words(error: Exception) -> str:
    if isinstance(error, ServerRefuses):
        return error.meaning.words
    # The kind of failure, not its text: that may name hosts and users.
    return TABLES_HELD if is_lock_timeout(error) else type(error).__name__


def _timed(ask: Callable[[], Any], failures: tuple[type[Exception], ...], unit: str = "") -> Part:
    started_at = time.perf_counter()
    try:
        answer = ask()
    except REFUSED as error:
        return Part("degraded", _since_ms(started_at), f"refuses writes: {reason_of(error)}")
    except failures as error:
        # The kind of failure, not its text: that may name hosts and users.
        return Part("down", None, type(error).__name__)
    return Part("ok", _since_ms(started_at), f"{answer} {unit}" if unit else None)


def _since_ms(started_at: float) -> float:
    return round((time.perf_counter() - started_at) * 1000, 2)


def _workers(client: redis.Redis) -> Part:
    try:
        seen: Any = client.get(_WORKER_SEEN)
        now = redis_time(client)
    except REDIS_UNAVAILABLE as error:
        return Part("down", None, type(error).__name__)
    if seen is None:
        return Part("down", None, "no worker has been seen")
    age_s = max(0.0, now - float(text(seen)))
    return Part("ok" if age_s < WORKER_SILENT_S else "down", None, f"last seen {age_s:.0f} s ago")


def _unsettled(database: Database) -> Part:
    try:
        backlog = read_backlog(database)
    except POSTGRES_UNAVAILABLE as error:
        return Part("down", None, type(error).__name__)
    detail = f"{backlog.unsettled} unsettled, the oldest {backlog.oldest_unsettled_s:.1f} s old"
    return Part("ok" if backlog.oldest_unsettled_s < _UNSETTLED_LATE_S else "degraded", None, detail)
