"""Picking up what got lost on the way: accepted but not settled, settled but not announced, noted but not published."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import structlog

from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_oldest
from scoreboard.services.boards.announce import announce, announce_left_behind
from scoreboard.services.boards.publish import publish_notes
from scoreboard.store.engine import Database

log = structlog.get_logger(__name__)

# Younger rows are most likely on their way through the broker.
LEFT_BEHIND_S = 3.0
# Settled in one transaction: past a thousand an action gets no cheaper, and its locks are held for some 0.3 s.
_BATCH = 1_000
# Nothing further is begun after so long: of the two seconds from one sweep to the next some are left to messages,
# and sweeps never pile up behind each other.
_WORK_FOR_S = 1.5
# Settlements announced together, of up to a thousand outcomes each.
_ANNOUNCE_BATCH = 10


@dataclass(frozen=True, slots=True)
class Swept:
    # Settled actions by outcome.
    outcomes: Mapping[str, int]
    announced: int
    published: int

    @property
    def settled(self) -> int:
        return sum(self.outcomes.values())


def sweep(
    database: Database,
    catalogue: Catalogue,
    standings: Standings,
    events: EventLog,
    *,
    older_than_s: float = LEFT_BEHIND_S,
    work_for_s: float = _WORK_FOR_S,
) -> Swept:
    """Do what was left behind. Raises SQLAlchemy errors when Postgres is down; copes with Redis being down."""
    until = time.monotonic() + work_for_s
    outcomes = _settle_left_behind(database, catalogue, standings, events, older_than_s, until)
    announced = _announce_left_behind(database, standings, events, older_than_s, until)
    try:
        published = publish_notes(database, standings, events, older_than_s=older_than_s)
    except UNAVAILABLE:
        published = 0
    swept = Swept(outcomes, announced, published)
    if swept.settled or announced or published:
        log.info("swept", settled=swept.settled, announced=announced, published=published)
    return swept


def _settle_left_behind(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog, older_than_s: float, until: float
) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    is_redis_up = True
    # Bounded by the time there is: a batch or two's worth, looked at again by the next sweep.
    passing_over: set[UUID] = set()
    while True:
        oldest = settle_oldest(database, catalogue, older_than_s=older_than_s, limit=_BATCH, passing_over=passing_over)
        passing_over |= oldest.left
        # A dead Redis costs a time-out once, not once per batch; the next sweep announces the rest.
        is_redis_up = is_redis_up and announce(database, standings, events, oldest.settled)
        outcomes.update(action.outcome.state.value for action in oldest.settled)
        if oldest.claimed < _BATCH or time.monotonic() >= until:
            return outcomes


def _announce_left_behind(
    database: Database, standings: Standings, events: EventLog, older_than_s: float, until: float
) -> int:
    announced = 0
    while found := announce_left_behind(database, standings, events, older_than_s=older_than_s, limit=_ANNOUNCE_BATCH):
        announced += found
        if time.monotonic() >= until:
            break
    return announced
