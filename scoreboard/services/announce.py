"""Telling of settled actions: standings to Redis, events to browsers, and a note that it is done."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from scoreboard.domain.actions import State
from scoreboard.domain.events import Event, action_settled, rank_changed, score_updated
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.events import Entry, EventLog, for_user
from scoreboard.live.standings import Applied, Move, Standings
from scoreboard.services.outcomes import outcome_json, outcome_of
from scoreboard.services.publish import entries_after
from scoreboard.services.settle_actions import Settled
from scoreboard.store import actions, users
from scoreboard.store.engine import Database

log = structlog.get_logger(__name__)


def announce(database: Database, standings: Standings, events: EventLog, settled: Sequence[Settled]) -> bool:
    """Publish outcomes and note it; false when Redis is down, then the sweep does it later.

    May be repeated: standings carry versions, and events that come twice carry the same state.
    """
    if not settled:
        return True
    scored = [each for each in settled if each.standing is not None]
    try:
        applied = standings.apply([each.standing for each in scored if each.standing])
        ranks = _ranks(scored, applied)
        events.publish(_entries(settled, scored, applied, ranks))
    except UNAVAILABLE as error:
        log.warning("announce_failed", error=str(error), actions=len(settled))
        return False
    with database.write() as connection:
        actions.write_announced(connection, {each.outcome.action_id: _rank_pair(each, ranks) for each in settled})
    return True


def announce_left_behind(
    database: Database, standings: Standings, events: EventLog, *, older_than_s: float, limit: int
) -> int:
    """Publish outcomes whose worker died, or found Redis down, after the commit; returns how many."""
    with database.read() as connection:
        action_ids = actions.find_unannounced(connection, older_than_s=older_than_s, limit=limit)
        rows = sorted(actions.get_actions(connection, action_ids), key=lambda row: (row.settled_at, row.id))
        current = {each.user_id: each for each in users.take_standings(connection, sorted({r.user_id for r in rows}))}
    left_behind = [
        Settled(row.user_id, outcome_of(row), current[row.user_id] if row.state is State.APPLIED else None)
        for row in rows
    ]
    return len(left_behind) if announce(database, standings, events, left_behind) else 0


def _ranks(scored: Sequence[Settled], applied: Applied) -> dict[UUID, Move]:
    if not applied.is_whole:
        return {}
    return {each.outcome.action_id: move for each, move in zip(scored, applied.moves, strict=True)}


def _rank_pair(settled: Settled, ranks: dict[UUID, Move]) -> tuple[int | None, int | None]:
    move = ranks.get(settled.outcome.action_id)
    return (move.old_rank, move.new_rank) if move else (None, None)


def _entries(
    settled: Sequence[Settled], scored: Sequence[Settled], applied: Applied, ranks: dict[UUID, Move]
) -> list[Entry]:
    private = [_private_entry(each, ranks.get(each.outcome.action_id)) for each in settled]
    if not scored:
        return private
    increments = {each.user_id: each.outcome.score_increment or 0 for each in scored}
    acting = {each.user_id for each in scored}
    # The acting players' own rank changes are in their private entries already.
    return private + entries_after(applied, increments, told=acting)


def _private_entry(settled: Settled, move: Move | None) -> Entry:
    outcome = settled.outcome
    old_rank, new_rank = (move.old_rank, move.new_rank) if move else (None, None)
    told: list[Event] = [
        action_settled(
            outcome.action_id, outcome.state, outcome.reason, outcome.score_increment, outcome.new_score, new_rank
        )
    ]
    if outcome.previous_score is not None and outcome.new_score is not None:
        told.append(score_updated(settled.user_id, outcome.previous_score, outcome.new_score, new_rank))
    if move and move.is_news and old_rank != new_rank:
        told.append(rank_changed(settled.user_id, old_rank, new_rank))
    answer = outcome_json(outcome, old_rank, new_rank)
    return for_user(settled.user_id, told, action_id=outcome.action_id, outcome=answer)
