"""Settling: judge accepted actions, score them, write ledger and audit, all in one transaction.

Guarded by the rows' state, so any number of deliveries, retries and races
changes a score once.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from scoreboard.domain.rules import BURST_WINDOW, RULES, Rule
from scoreboard.services.catalogue import Catalogue
from scoreboard.services.judge_actions import Batch, Settled, judge_actions
from scoreboard.store import audit, settlements, signals
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.settlements import Accepted

log = structlog.get_logger(__name__)


def settle_actions(
    database: Database, catalogue: Catalogue, action_ids: Sequence[UUID], rules: Sequence[Rule] = RULES
) -> list[Settled]:
    """Settle those of the actions that are accepted and in nobody else's hands; committed when this returns.

    An action that can't be settled ends as ``failed`` and holds up nobody else.
    Raises SQLAlchemy's OperationalError when Postgres is down; then nothing has
    changed, or some of them have been settled.
    """
    if not action_ids:
        return []
    try:
        with database.write() as connection:
            return _settle(connection, catalogue, settlements.lock_accepted(connection, action_ids), rules)
    except UNAVAILABLE:
        raise
    except DBAPIError as error:
        log.error("settlement_refused", error=str(error.orig), actions=len(action_ids))
    if len(action_ids) == 1:
        return _fail(database, action_ids[0])
    # Halves of halves find one bad row among a thousand in twenty transactions.
    middle = len(action_ids) // 2
    return [
        settled
        for half in (action_ids[:middle], action_ids[middle:])
        for settled in settle_actions(database, catalogue, half, rules)
    ]


def settle_oldest(
    database: Database, catalogue: Catalogue, *, older_than_s: float, limit: int, rules: Sequence[Rule] = RULES
) -> list[Settled]:
    """Settle the oldest accepted actions that are in nobody else's hands, as ``settle_actions`` does.

    Fewer than ``limit`` come back when there are no more.
    """
    claimed: list[Accepted] = []
    try:
        with database.write() as connection:
            claimed = settlements.lock_oldest(connection, older_than_s=older_than_s, limit=limit)
            return _settle(connection, catalogue, claimed, rules)
    except UNAVAILABLE:
        raise
    except DBAPIError as error:
        log.error("settlement_refused", error=str(error.orig), actions=len(claimed))
    return settle_actions(database, catalogue, [action.id for action in claimed], rules)


def _settle(
    connection: sa.Connection, catalogue: Catalogue, accepted: Sequence[Accepted], rules: Sequence[Rule]
) -> list[Settled]:
    if not accepted:
        return []
    # Actions first (skipping what others hold), then players in id order: no two workers wait in a ring.
    first = min(action.accepted_at for action in accepted if action.accepted_at)
    user_ids = sorted({action.user_id for action in accepted})
    locked = settlements.lock_players(connection, user_ids, since=first - BURST_WINDOW)
    batch = Batch(uuid7())
    judge_actions(accepted, locked, catalogue, rules, batch)
    return _write(connection, batch)


def _fail(database: Database, action_id: UUID) -> list[Settled]:
    """One action that the database refuses to settle in any other way."""
    with database.write() as connection:
        batch = Batch(uuid7())
        for action in settlements.lock_accepted(connection, [action_id]):
            batch.fail(action)
        return _write(connection, batch) if batch.judged else []


def _write(connection: sa.Connection, batch: Batch) -> list[Settled]:
    written = settlements.write_settlement(connection, batch.settlement_id, batch.judged, batch.changes)
    if written != len(batch.judged):
        raise RuntimeError("a locked action changed its state")
    signals.record(connection, batch.signals)
    audit.record(connection, *batch.audit_events)
    return batch.settled
