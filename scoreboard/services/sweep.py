"""Picking up what got lost on the way: accepted but not settled, settled but not announced, noted but not published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.events import EventLog
from scoreboard.live.standings import Standings
from scoreboard.services.announce import announce, announce_left_behind
from scoreboard.services.catalogue import Catalogue
from scoreboard.services.publish import publish_notes
from scoreboard.services.settle_actions import settle_actions
from scoreboard.store import actions
from scoreboard.store.engine import Database

log = structlog.get_logger(__name__)

# Younger rows are most likely on their way through the broker.
LEFT_BEHIND_S = 3.0
_BATCH = 200
# One sweep settles at most this many, so that it ends well within the task's time limit.
_SWEEP_MAX = 5_000


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
) -> Swept:
    """Do what was left behind. Raises SQLAlchemy errors when Postgres is down; copes with Redis being down."""
    outcomes = _settle_left_behind(database, catalogue, standings, events, older_than_s)
    announced = announce_left_behind(database, standings, events, older_than_s=older_than_s, limit=_BATCH)
    try:
        published = publish_notes(database, standings, events, older_than_s=older_than_s)
    except UNAVAILABLE:
        published = 0
    swept = Swept(outcomes, announced, published)
    if swept.settled or announced or published:
        log.info("swept", settled=swept.settled, announced=announced, published=published)
    return swept


def _settle_left_behind(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog, older_than_s: float
) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    is_redis_up = True
    while outcomes.total() < _SWEEP_MAX:
        with database.write() as connection:
            action_ids = actions.find_unsettled(connection, older_than_s=older_than_s, limit=_BATCH)
        if not action_ids:
            break
        settled = settle_actions(database, catalogue, action_ids)
        # A dead Redis costs a time-out once, not once per batch; the next sweep announces the rest.
        is_redis_up = is_redis_up and announce(database, standings, events, settled)
        outcomes.update(each.outcome.state.value for each in settled)
        if not settled:
            break
    return outcomes
