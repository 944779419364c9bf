"""Announces settled actions: standings to Redis, events to browsers, then a mark on the settlement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import structlog

from scoreboard.domain.actions import State
from scoreboard.domain.standings import Standing
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.standings import Applied, Standings
from scoreboard.live.stream.events import EventLog, StreamEntry, for_user
from scoreboard.services.actions.judge import Settled
from scoreboard.services.actions.outcomes import outcome_json, outcome_of
from scoreboard.services.boards.publish import entries_after
from scoreboard.store import actions, board, settlements, users
from scoreboard.store.engine import Database
from scoreboard.store.settlements import SettlementRanks
from scoreboard.wire.events import Event, action_settled, rank_changed, score_updated

log = structlog.get_logger(__name__)


# Ranks that Redis lacks are counted in Postgres: a batch of 50 on a board of 100,000 takes half a second.
_WALK_MAX = 5_000_000


class Ranks(NamedTuple):
    """An action's announced ranks, the same in every answer; None when not on the board or unknown."""

    previous: int | None
    rank: int | None


_UNKNOWN = Ranks(None, None)


def announce(database: Database, standings: Standings, events: EventLog, settled: Sequence[Settled]) -> bool:
    """Publish outcomes and mark their settlements; false when Redis is down, then the sweep does it later.

    Ranks are committed before anything is told, also when Redis is down: from then on every answer is the same.
    May be repeated: standings carry versions, and events that come twice carry the same state.
    """
    if not settled:
        return True
    scored = [action for action in settled if action.standing is not None]
    try:
        applied = standings.apply([action.standing for action in scored if action.standing])
    except UNAVAILABLE as error:
        return _put_off(database, settled, scored, error)
    ranks = _set_ranks(database, settled, _found_ranks(database, scored, applied))
    try:
        events.publish(_entries(settled, scored, applied, ranks))
    except UNAVAILABLE as error:
        log.warning("announce_failed", error=str(error), actions=len(settled))
        return False
    with database.autocommit() as connection:
        for settlement_id in dict.fromkeys(action.settlement_id for action in settled):
            settlements.write_announced(connection, settlement_id)
    return True


def _put_off(database: Database, settled: Sequence[Settled], scored: Sequence[Settled], error: Exception) -> bool:
    log.warning("announce_failed", error=str(error), actions=len(settled))
    _set_ranks(database, settled, _counted_ranks(database, scored))
    return False


def announce_left_behind(
    database: Database, standings: Standings, events: EventLog, *, older_than_s: float, limit: int
) -> int:
    """Publish settlements whose worker died, or found Redis down, after the commit.

    At most ``limit`` of them; returns how many outcomes they hold.
    """
    with database.read() as connection:
        unannounced = settlements.find_unannounced(connection, older_than_s=older_than_s, limit=limit)
        stored = {
            action.id: action
            for settlement in unannounced
            for action in actions.get_actions(connection, settlement.action_ids)
        }
        players = sorted({action.user_id for action in stored.values()})
        current = {standing.user_id: standing for standing in users.take_standings(connection, players)}
    left_behind = [
        Settled(
            settlement_id=settlement.id,
            user_id=action.user_id,
            outcome=outcome_of(action),
            standing=current[action.user_id] if action.state is State.APPLIED else None,
        )
        for settlement in unannounced
        for action in map(stored.__getitem__, settlement.action_ids)
    ]
    return len(left_behind) if announce(database, standings, events, left_behind) else 0


def _found_ranks(database: Database, scored: Sequence[Settled], applied: Applied) -> dict[UUID, Ranks]:
    """The ranks in Redis, or in Postgres if the board is not whole there."""
    if not applied.is_whole:
        return _counted_ranks(database, scored)
    return {
        action.outcome.action_id: Ranks(move.old_rank, move.new_rank)
        for action, move in zip(scored, applied.moves, strict=True)
    }


def _counted_ranks(database: Database, scored: Sequence[Settled]) -> dict[UUID, Ranks]:
    """The ranks that the standings before and after have in Postgres now, as far as counting them is affordable."""
    # The new ranks come first: of too many standings, the previous ones are left out.
    asked: list[tuple[UUID, Standing]] = [
        (action.outcome.action_id, action.standing) for action in scored if action.standing
    ]
    before = [(action.outcome.action_id, action.previous) for action in scored if action.previous]
    if not asked:
        return {}
    with database.read() as connection:
        found = board.ranks_of(connection, [standing for _, standing in asked + before], walk_max=_WALK_MAX)
    ranks = {action_id: rank for (action_id, _), rank in zip(asked, found, strict=False)}
    previous = {action_id: rank for (action_id, _), rank in zip(before, found[len(asked) :], strict=True)}
    return {action_id: Ranks(previous.get(action_id), rank) for action_id, rank in ranks.items()}


def _set_ranks(database: Database, settled: Sequence[Settled], found: Mapping[UUID, Ranks]) -> dict[UUID, Ranks]:
    """The ranks in force: those found, or those that another process set first."""
    by_settlement: dict[UUID, list[UUID]] = {}
    for action in settled:
        by_settlement.setdefault(action.settlement_id, []).append(action.outcome.action_id)
    holding: dict[UUID, Ranks] = {}
    with database.autocommit() as connection:
        for settlement_id, action_ids in by_settlement.items():
            mine = [found.get(action_id, _UNKNOWN) for action_id in action_ids]
            wanted = SettlementRanks([ranks.previous for ranks in mine], [ranks.rank for ranks in mine])
            set_ones = settlements.set_ranks(connection, settlement_id, wanted)
            holding.update(zip(action_ids, map(Ranks, *set_ones), strict=True))
    return holding


def _entries(
    settled: Sequence[Settled], scored: Sequence[Settled], applied: Applied, ranks: Mapping[UUID, Ranks]
) -> list[StreamEntry]:
    news = _news(scored, applied)
    private = [
        _private_entry(action, ranks[action.outcome.action_id], is_news=action.outcome.action_id in news)
        for action in settled
    ]
    if not scored:
        return private
    increments = {action.user_id: action.outcome.score_increment or 0 for action in scored}
    acting = {action.user_id for action in scored}
    # The acting players' own rank changes are in their private entries already.
    return private + entries_after(applied, increments, told=acting)


def _news(scored: Sequence[Settled], applied: Applied) -> set[UUID]:
    """Actions whose standings changed the board in Redis just now."""
    if not applied.is_whole:
        return set()
    return {action.outcome.action_id for action, move in zip(scored, applied.moves, strict=True) if move.is_news}


def _private_entry(settled: Settled, ranks: Ranks, *, is_news: bool) -> StreamEntry:
    outcome = settled.outcome
    told: list[Event] = [
        action_settled(
            action_id=outcome.action_id,
            status=outcome.state,
            reason=outcome.reason,
            increment=outcome.score_increment,
            new_score=outcome.new_score,
            rank=ranks.rank,
            reason_details=outcome.reason_details,
        )
    ]
    if outcome.previous_score is not None and outcome.new_score is not None:
        told.append(
            score_updated(
                settled.user_id,
                old_score=outcome.previous_score,
                new_score=outcome.new_score,
                new_rank=ranks.rank,
            )
        )
    if is_news and ranks.previous != ranks.rank:
        told.append(rank_changed(settled.user_id, old_rank=ranks.previous, new_rank=ranks.rank))
    answer = outcome_json(outcome, ranks.previous, ranks.rank)
    return for_user(settled.user_id, told, action_id=outcome.action_id, outcome=answer)
