"""Builds the components of a web process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import redis
from celery import Celery
from flask import current_app
from gevent import monkey
from gevent.socket import wait_read, wait_write
from gevent.threadpool import ThreadPool

from config import Settings
from scoreboard import metrics
from scoreboard.coalesce import park_by
from scoreboard.live.connection import make_client
from scoreboard.live.queue.app import Ringer, make_celery, probe_broker
from scoreboard.live.queue.doorbell import Doorbell
from scoreboard.live.shared_counts import SharedCounts
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.live.stream.hub import Hub
from scoreboard.live.stream.stream_slots import StreamSlots
from scoreboard.metric_values import BOOK
from scoreboard.services.accounts.callers import CallerLookup
from scoreboard.services.accounts.passwords import Passwords, Runner, run_here
from scoreboard.services.accounts.sessions import find_alive_sessions
from scoreboard.services.actions.batch import BatchIntake
from scoreboard.services.actions.catalogue import Catalogue, load_catalogue
from scoreboard.services.actions.complete import CompleteAction
from scoreboard.services.actions.complete_batch import BatchCompletion
from scoreboard.services.actions.following import FollowingActions
from scoreboard.services.actions.intake import Intake
from scoreboard.services.actions.tokens import TokenBox
from scoreboard.services.boards.read import BoardReader
from scoreboard.services.upkeep.health import BoardWatch
from scoreboard.store.clock import DatabaseClock
from scoreboard.store.engine import REQUEST_STATEMENT_S, Database, make_engine
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.timeouts import give_up_on_silence
from scoreboard.web.door.callers import Callers
from scoreboard.web.door.enter import Door
from scoreboard.web.door.late_limits import LateLimits
from scoreboard.web.door.rate_limits import Limits, make_limits
from scoreboard.web.door.subject import Subjects
from scoreboard.web.door.tokens import Tokens
from scoreboard.web.server.admission import Admission
from scoreboard.web.server.greenlet_parking import GreenletParking
from scoreboard.web.server.security_headers import steady_headers

EXTENSION = "scoreboard"
# Argon2 fills a core; as many threads as the small machine has cores.
_HASH_THREADS = 2
# Kinds of coalesced queries: sessions, players, issues, acceptances, batches.
_SHARED_QUESTIONS = 5


@dataclass(frozen=True)
class Components:
    settings: Settings
    admission: Admission
    catalogue: Catalogue
    database: Database
    # What processes date for each other is dated and judged by this.
    clock: DatabaseClock
    redis: redis.Redis
    celery: Celery
    standings: Standings
    events: EventLog
    board: BoardReader
    callers: CallerLookup
    intake: Intake
    complete_action: CompleteAction
    batch_completion: BatchCompletion
    late_limits: LateLimits
    door: Door
    access_tokens: Tokens
    hub: Hub
    stream_slots: StreamSlots
    doorbell: Doorbell
    passwords: Passwords
    tokens: TokenBox
    shared_counts: SharedCounts
    board_watch: BoardWatch = field(default_factory=BoardWatch)

    @property
    def limits(self) -> Limits:
        """Those that ``enter`` counts; for what is to be counted beside the operation itself."""
        return self.door.limits

    def broker_length(self) -> int:
        return probe_broker(self.celery)


def build_components(settings: Settings) -> Components:
    """Connects to nothing yet: every client connects when it is first used, after fork.

    Raises CatalogueError, and ValueError when a server's address is missing.
    """
    if not settings.database_url or not settings.redis_url or not settings.broker_url:
        raise ValueError("DATABASE_URL and REDIS_URL are needed; `scoreboard run` sets them for its own servers")
    _prepare_process(settings)
    database = _make_database(settings)
    client = make_client(settings.redis_url)
    standings, events = Standings(client), EventLog(client)
    board = BoardReader(database, standings, metrics.BOARD_FALLBACKS.inc)
    celery = make_celery(settings.broker_url)
    admission = Admission(
        settings.max_requests_at_once, headers=steady_headers(settings), origins=settings.cors_origins
    )
    catalogue, tokens = load_catalogue(settings.catalogue_path), TokenBox(settings.action_keys)
    intake = Intake(database, max_open=settings.max_open_actions)
    clock, callers = DatabaseClock(database), CallerLookup(database)
    following = FollowingActions(database, intake, catalogue, tokens, callers, clock, settings.action_token_ttl_s)
    hub = _make_hub(settings, database, board)
    doorbell = Doorbell(Ringer(celery), metrics.DEGRADED.labels("broker", "doorbell").inc)
    access_tokens = Tokens(settings, clock)
    return Components(
        settings=settings,
        admission=admission,
        catalogue=catalogue,
        database=database,
        clock=clock,
        redis=client,
        celery=celery,
        standings=standings,
        events=events,
        board=board,
        callers=callers,
        door=_make_door(settings, clock=clock, callers=callers, hub=hub, tickets=tokens, access_tokens=access_tokens),
        access_tokens=access_tokens,
        intake=intake,
        complete_action=CompleteAction(following, doorbell, hub, admission.pause),
        batch_completion=BatchCompletion(database, BatchIntake(database), catalogue, hub, doorbell, admission.pause),
        late_limits=LateLimits(client, settings),
        hub=hub,
        stream_slots=_make_stream_slots(settings, client),
        doorbell=doorbell,
        passwords=Passwords(_hash_runner()),
        tokens=tokens,
        shared_counts=SharedCounts(client),
    )


def current_components() -> Components:
    """The components of the application that handles this request."""
    return cast(Components, current_app.extensions[EXTENSION])


def _prepare_process(settings: Settings) -> None:
    """Let libraries wait as greenlets do, where gevent has patched the process, and metrics have their folder."""
    if monkey.is_module_patched("socket"):
        _let_psycopg2_yield()
        park_by(GreenletParking)
    if settings.prometheus_multiproc_dir:
        BOOK.keep_in(settings.prometheus_multiproc_dir)


def _make_stream_slots(settings: Settings, client: redis.Redis) -> StreamSlots:
    return StreamSlots(
        client,
        per_user=settings.max_streams_per_user,
        per_ip=settings.max_streams_per_ip,
        on_fallback=metrics.DEGRADED.labels("redis", "stream_place").inc,
    )


def _make_door(
    settings: Settings,
    *,
    clock: DatabaseClock,
    callers: CallerLookup,
    hub: Hub,
    tickets: TokenBox,
    access_tokens: Tokens,
) -> Door:
    return Door(
        settings=settings,
        callers=Callers(settings, clock=clock, lookup=callers, tokens=access_tokens, tickets=tickets),
        subjects=Subjects(callers, hub),
        limits=make_limits(settings),
    )


def _make_database(settings: Settings) -> Database:
    assert settings.database_url is not None
    size = settings.database_pool_size
    # Each kind of coalesced query runs one at a time, so it needs one connection.
    shared = min(_SHARED_QUESTIONS, size // 2)
    replica = settings.database_replica_url
    make = partial(make_engine, name="web", statement_timeout_s=REQUEST_STATEMENT_S, pooler=settings.database_pooler)
    return Database(
        make(settings.database_url, size - shared),
        make(replica, size, is_autocommit=True) if replica else None,
        make(settings.database_url, shared, is_autocommit=True, is_for_lookups=True),
        metrics.DEGRADED.labels("replica", "read").inc,
    )


def _make_hub(settings: Settings, database: Database, board: BoardReader) -> Hub:
    assert settings.redis_url is not None

    # A client of its own: its blocking reads may last longer than an ordinary command.
    reader = EventLog(make_client(settings.redis_url, timeout_s=5.0, max_connections=2, is_blocking=True))
    return Hub(
        reader,
        read_top=board.read_top,
        find_alive=partial(find_alive_sessions, database),
        interval_s=settings.broadcast_interval_ms / 1000,
        heartbeat_s=settings.heartbeat_s,
        unavailable=POSTGRES_UNAVAILABLE,
        on_unchecked=metrics.DEGRADED.labels("postgres", "session_check").inc,
    )


def _let_psycopg2_yield() -> None:
    """Under gevent a query must not hold up the other requests of the process."""
    give_up_on_silence(_wait_in_greenlet, REQUEST_STATEMENT_S)


def _wait_in_greenlet(descriptor: int, is_writing: bool, timeout_s: float) -> bool:
    wait: Callable[..., object] = wait_write if is_writing else wait_read
    try:
        wait(descriptor, timeout=timeout_s)
    except TimeoutError:
        return False
    return True


def _hash_runner() -> Runner:
    if not monkey.is_module_patched("socket"):
        return run_here
    pool = ThreadPool(_HASH_THREADS)

    def run(function: Callable[..., object], *arguments: str) -> object:
        return pool.apply(function, arguments)

    return run
