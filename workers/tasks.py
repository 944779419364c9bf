"""The tasks. Each may be delivered any number of times, in any order, or not at all."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import structlog

from scoreboard import metrics
from scoreboard.live.connection import UNAVAILABLE as REDIS_UNAVAILABLE
from scoreboard.live.queue import app as queue
from scoreboard.live.standings import RebuildOvertakenError
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.actions.sweep import sweep as sweep_up
from scoreboard.services.boards.announce import announce
from scoreboard.services.boards.build import RebuildRunningError, ensure_board
from scoreboard.services.boards.build import rebuild_board as rebuild
from scoreboard.services.upkeep.health import note_worker
from scoreboard.services.upkeep.housekeeping import keep_house
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.refusals import explain
from workers.bootstrap import components
from workers.celery_app import app

log = structlog.get_logger(__name__)

# Seconds; a board of millions takes a minute or more, and a rebuild that hangs is given up some time.
_REBUILD_LIMITS: dict[str, Any] = {"soft_time_limit": 1800, "time_limit": 1860}


@app.task(name=queue.SETTLE)
def settle(action_ids: list[str]) -> None:
    """Settle a batch of accepted actions and tell of it. When Postgres is down the sweep settles them later."""
    work = components()
    with metrics.SETTLE_SECONDS.time():
        try:
            settled = settle_actions(work.database, work.catalogue, [UUID(action_id) for action_id in action_ids])
            is_announced = announce(work.database, work.standings, work.events, settled)
        except POSTGRES_UNAVAILABLE as error:
            log.warning("settle_postponed", error=explain(error), actions=len(action_ids))
            metrics.DEGRADED.labels("postgres", "settle").inc(len(action_ids))
            return
    for state, count in Counter(action.outcome.state for action in settled).items():
        metrics.SETTLED.labels(state).inc(count)
    if not is_announced:
        metrics.UNANNOUNCED.inc()


@app.task(name=queue.SWEEP)
def sweep() -> None:
    """Do unfinished work, and show that a worker is there."""
    work = components()
    try:
        note_worker(work.redis)
    except REDIS_UNAVAILABLE as error:
        log.warning("worker_not_noted", error=str(error))
    try:
        swept = sweep_up(work.database, work.catalogue, work.standings, work.events)
    except POSTGRES_UNAVAILABLE as error:
        log.warning("sweep_postponed", error=explain(error))
        metrics.DEGRADED.labels("postgres", "sweep").inc()
        return
    for state, count in swept.outcomes.items():
        metrics.SETTLED.labels(state).inc(count)
    for kind in ("settled", "announced", "published"):
        metrics.SWEPT.labels(kind).inc(getattr(swept, kind))


@app.task(name=queue.ENSURE_BOARD, **_REBUILD_LIMITS)
def ensure_whole_board() -> None:
    """Refill the board when Redis was emptied or restarted."""
    _ensure(compare=False)


@app.task(name=queue.COMPARE_BOARD, **_REBUILD_LIMITS)
def compare_board() -> None:
    """Refill the board when it lacks players."""
    _ensure(compare=True)


@app.task(name=queue.REBUILD, **_REBUILD_LIMITS)
def rebuild_board() -> None:
    """Refill the board because an admin asked for it."""
    work = components()
    try:
        rebuild(work.database, work.standings, work.events)
    except (RebuildRunningError, RebuildOvertakenError) as error:
        # Asked for twice, or Redis was emptied meanwhile, which the next look finds.
        log.info("board_rebuild_left_to_others", error=type(error).__name__)
    except (*REDIS_UNAVAILABLE, *POSTGRES_UNAVAILABLE) as error:
        log.warning("board_not_rebuilt", error=str(error).partition("\n")[0])
    else:
        metrics.REBUILDS.inc()


@app.task(name=queue.HOUSEKEEPING)
def housekeeping() -> None:
    """Expired tokens, old sessions, next months' partitions."""
    try:
        keep_house(components().database)
    except POSTGRES_UNAVAILABLE as error:
        log.warning("house_not_kept", error=explain(error))


def _ensure(*, compare: bool) -> None:
    work = components()
    try:
        if ensure_board(work.database, work.standings, work.events, compare=compare):
            metrics.REBUILDS.inc()
    except (*REDIS_UNAVAILABLE, *POSTGRES_UNAVAILABLE) as error:
        log.warning("board_not_ensured", error=str(error).splitlines()[0])
