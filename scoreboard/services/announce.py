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
from scoreboard.services.judge_actions import Settled
from scoreboard.services.outcomes import outcome_json, outcome_of
from scoreboard.services.publish import entries_after
from scoreboard.store import actions, settlements, users
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
    by_settlement: dict[UUID, list[Settled]] = {}
    for each in settled:
        by_settlement.setdefault(each.settlement_id, []).append(each)
    with database.autocommit() as connection:
        for settlement_id, parts in by_settlement.items():
            moves = [ranks.get(each.outcome.action_id) for each in parts]
            old_ranks = [move.old_rank if move else None for move in moves]
            settlements.write_announced(
                connection, settlement_id, old_ranks, [move.new_rank if move else None for move in moves]
            )
    return True


def announce_left_behind(
    database: Database, standings: Standings, events: EventLog, *, older_than_s: float, limit: int
) -> int:
    """Publish settlements whose worker died, or found Redis down, after the commit.

    At most ``limit`` of them; returns how many outcomes they hold.
    """
    with database.read() as connection:
        unannounced = settlements.find_unannounced(connection, older_than_s=older_than_s, limit=limit)
        rows = {each.id: each for found in unannounced for each in actions.get_actions(connection, found.action_ids)}
        players = sorted({row.user_id for row in rows.values()})
        current = {each.user_id: each for each in users.take_standings(connection, players)}
    left_behind = [
        Settled(found.id, row.user_id, outcome_of(row), current[row.user_id] if row.state is State.APPLIED else None)
        for found in unannounced
        for row in map(rows.__getitem__, found.action_ids)
    ]
    return len(left_behind) if announce(database, standings, events, left_behind) else 0


def _ranks(scored: Sequence[Settled], applied: Applied) -> dict[UUID, Move]:
    if not applied.is_whole:
        return {}
    return {each.outcome.action_id: move for each, move in zip(scored, applied.moves, strict=True)}


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
