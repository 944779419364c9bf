"""Settling: judge accepted actions, score them, write ledger and audit, all in one transaction.

Guarded by the rows' state, so any number of deliveries, retries and races
changes a score once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from scoreboard.domain.rules import BURST_WINDOW, RULES, Rule
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.judge import Batch, Settled, fail_actions, judge_actions
from scoreboard.store import audit, settlements, signals
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.settlements import AcceptedAction, PlayersBusyError

log = structlog.get_logger(__name__)

# Another worker holds a player for some 0.3 s at most. A longer lock is not a worker's, and not waited for.
_BUSY_WAIT_S = 0.5
#: What is wrong with a row, and not with the server: Postgres refuses it, or the driver a value in it.
_REFUSED = (SQLAlchemyError, ValueError, TypeError)


class SettledOldest(NamedTuple):
    """What was settled of the oldest actions, and which of them were claimed and can't be settled now."""

    settled: list[Settled]
    left: set[UUID]

    @property
    def claimed(self) -> int:
        return len(self.settled) + len(self.left)


def settle_actions(
    database: Database, catalogue: Catalogue, action_ids: Sequence[UUID], rules: Sequence[Rule] = RULES
) -> list[Settled]:
    """Settle those of the actions that are accepted and not locked by another worker; committed when this returns.

    An action that can't be settled ends as ``failed`` and does not delay the others. An action whose player
    is locked elsewhere comes last, is waited for for a moment, and is left to the sweep.
    Raises SQLAlchemy's OperationalError when Postgres is down; then nothing has
    changed, or some of them have been settled.
    """
    if not action_ids:
        return []
    try:
        with database.write() as connection:
            settled, busy = _settle(connection, catalogue, settlements.lock_accepted(connection, action_ids), rules)
    except UNAVAILABLE:
        raise
    except _REFUSED as error:
        return _settle_apart(database, catalogue, action_ids, rules, error)
    return settled + _settle_busy(database, catalogue, busy, rules)


def settle_oldest(
    database: Database,
    catalogue: Catalogue,
    *,
    older_than_s: float,
    limit: int,
    rules: Sequence[Rule] = RULES,
    passing_over: Collection[UUID] = (),
) -> SettledOldest:
    """Settle the oldest accepted actions that no other worker has locked, as ``settle_actions`` does.

    Those in ``passing_over`` are not looked at. Fewer than ``limit`` are claimed when there are no more.
    """
    claimed: list[UUID] = []
    try:
        with database.write() as connection:
            accepted = settlements.lock_oldest(
                connection, older_than_s=older_than_s, limit=limit, passing_over=passing_over
            )
            claimed = [action.id for action in accepted]
            settled, busy = _settle(connection, catalogue, accepted, rules)
        settled += _settle_busy(database, catalogue, busy, rules)
    except UNAVAILABLE:
        raise
    except _REFUSED as error:
        settled = _settle_apart(database, catalogue, claimed, rules, error)
    return SettledOldest(settled, left=set(claimed) - {action.outcome.action_id for action in settled})


def _settle(
    connection: sa.Connection,
    catalogue: Catalogue,
    accepted: Sequence[AcceptedAction],
    rules: Sequence[Rule],
    wait_s: float | None = None,
) -> tuple[list[Settled], list[UUID]]:
    """What was settled, and the actions left alone because their players are in other hands."""
    if not accepted:
        return [], []
    # Actions first (skipping what others hold), then players in id order: no two workers deadlock.
    first = min(action.accepted_at for action in accepted if action.accepted_at)
    user_ids = sorted({action.user_id for action in accepted})
    locked = settlements.lock_players(connection, user_ids, since=first - BURST_WINDOW, wait_s=wait_s)
    free = {player.id for player in locked}
    judged_now = [action for action in accepted if action.user_id in free]
    batch = judge_actions(uuid7(), judged_now, locked, catalogue=catalogue, rules=rules)
    return _write(connection, batch), [action.id for action in accepted if action.user_id not in free]


def _settle_busy(
    database: Database, catalogue: Catalogue, action_ids: Sequence[UUID], rules: Sequence[Rule]
) -> list[Settled]:
    """Settle actions whose players were in other hands a moment ago, most likely another worker's.

    Actions of players that stay locked are left alone once more.
    """
    if not action_ids:
        return []
    try:
        with database.write() as connection:
            accepted = settlements.lock_accepted(connection, action_ids)
            return _settle(connection, catalogue, accepted, rules, _BUSY_WAIT_S)[0]
    except PlayersBusyError:
        log.warning("players_busy", actions=len(action_ids))
    except UNAVAILABLE:
        raise
    except _REFUSED as error:
        return _settle_apart(database, catalogue, action_ids, rules, error)
    with database.write() as connection:
        return _settle(connection, catalogue, settlements.lock_accepted(connection, action_ids), rules)[0]


def _settle_apart(
    database: Database, catalogue: Catalogue, action_ids: Sequence[UUID], rules: Sequence[Rule], error: Exception
) -> list[Settled]:
    """Settle what could not be settled together. Halves of halves find one bad row among a thousand in twenty steps."""
    log.error("settlement_refused", error=str(error).splitlines()[0], actions=len(action_ids))
    if len(action_ids) <= 1:
        return [settled for action_id in action_ids for settled in _fail(database, action_id)]
    middle = len(action_ids) // 2
    return [
        settled
        for half in (action_ids[:middle], action_ids[middle:])
        for settled in settle_actions(database, catalogue, half, rules)
    ]


def _fail(database: Database, action_id: UUID) -> list[Settled]:
    """One action that the database refuses to settle in any other way; it may refuse this one too."""
    try:
        with database.write() as connection:
            return _write(connection, fail_actions(uuid7(), settlements.lock_accepted(connection, [action_id])))
    except UNAVAILABLE:
        raise
    except _REFUSED as error:
        # It stays accepted, and shows as the oldest that is unsettled, until the database is mended.
        log.error("action_stuck", action_id=str(action_id), error=str(error).splitlines()[0])
        return []


def _write(connection: sa.Connection, batch: Batch) -> list[Settled]:
    if not batch.actions:
        return []
    written = settlements.write_settlement(connection, batch.settlement_id, batch.judged, batch.changes)
    if written != len(batch.actions):
        raise RuntimeError("a locked action changed its state")
    signals.record(connection, batch.signals)
    audit.record(connection, *batch.audit_events)
    return batch.settled
