"""The periodic tasks of beat, and their intervals in seconds."""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import ScheduleEntry, Scheduler

from scoreboard import metrics
from scoreboard.live.queue import app as queue
from scoreboard.live.queue.app import QUEUE_MAX_MESSAGES, queue_length

log = structlog.get_logger(__name__)

SCHEDULE: dict[str, dict[str, Any]] = {
    # What got lost is found within two sweeps: rows are left alone for their first three seconds.
    "sweep": {"task": queue.SWEEP, "schedule": 2.0},
    # An emptied Redis serves from Postgres until this notices.
    "ensure-board": {"task": queue.ENSURE_BOARD, "schedule": 2.0},
    # Counts all players: a second's work on a board of millions.
    "compare-board": {"task": queue.COMPARE_BOARD, "schedule": 60.0},
    "housekeeping": {"task": queue.HOUSEKEEPING, "schedule": 60.0},
}


class BoundedScheduler(Scheduler):
    """Keeps its schedule in memory and sends no more when no worker answers: the queue stays bounded."""

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        try:
            if queue_length(self.app) >= QUEUE_MAX_MESSAGES:
                metrics.DEGRADED.labels("workers", "schedule").inc()
                log.warning("schedule_skipped", task=entry.task, hint="no worker takes messages from the queue")
                return
            # Not the parent's apply_entry, which answers a broker that is away or refuses with a page of stack trace.
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:  # the broker's client raises many kinds; the schedule goes on
            metrics.DEGRADED.labels("broker", "schedule").inc()
            log.warning("broker_unavailable", error=str(error))
