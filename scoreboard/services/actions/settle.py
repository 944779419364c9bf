"""Settling: judge accepted actions, score them, write ledger and audit, all in one transaction.

Guarded by the rows' state, so any number of deliveries, retries and races
changes a score once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from scoreboard.domain.rules import AHEAD_MAX, BURST_WINDOW, RULES, Rule
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.judge import Settled, SettlementBatch, fail_actions, judge_actions
from scoreboard.store import audit, settlements, signals
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.settlements import AcceptedAction, LockedPlayer, PlayersBusyError

log = structlog.get_logger(__name__)

# Another worker holds a player for some 0.3 s at most. A longer lock is not a worker's, and not waited for.
_BUSY_WAIT_S = 0.5
# What a rule looks at was accepted no earlier than this before its completion.
_LOOK_BACK = BURST_WINDOW + AHEAD_MAX
#: What is wrong with a row, and not with the server: Postgres refuses it, or the driver a value in it.
_REFUSED = (SQLAlchemyError, ValueError, TypeError)


class SettledOldest(NamedTuple):
    """The oldest actions: those that were settled, and those that were claimed and can't be settled now."""

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
    return _Settling(database, catalogue, rules).settle(action_ids)


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
    return _Settling(database, catalogue, rules).settle_oldest(
        older_than_s=older_than_s, limit=limit, passing_over=passing_over
    )


class _Attempt(NamedTuple):
    """What one transaction settled, and the actions that it left alone because their players are locked elsewhere."""

    settled: list[Settled]
    busy: list[UUID]


@dataclass(frozen=True, slots=True)
class _Settling:
    """The steps of settling, with what they work with."""

    database: Database
    catalogue: Catalogue
    rules: Sequence[Rule]

    def settle(self, action_ids: Sequence[UUID]) -> list[Settled]:
        if not action_ids:
            return []
        try:
            with self.database.write() as connection:
                attempt = self._attempt(connection, settlements.lock_accepted(connection, action_ids))
        except UNAVAILABLE:
            raise
        except _REFUSED as error:
            return self._settle_apart(action_ids, error)
        return attempt.settled + self._settle_busy(attempt.busy)

    def settle_oldest(self, *, older_than_s: float, limit: int, passing_over: Collection[UUID]) -> SettledOldest:
        claimed: list[UUID] = []
        try:
            with self.database.write() as connection:
                accepted = settlements.lock_oldest(
                    connection, older_than_s=older_than_s, limit=limit, passing_over=passing_over
                )
                claimed = [action.id for action in accepted]
                attempt = self._attempt(connection, accepted)
            settled = attempt.settled + self._settle_busy(attempt.busy)
        except UNAVAILABLE:
            raise
        except _REFUSED as error:
            settled = self._settle_apart(claimed, error)
        return SettledOldest(settled, left=set(claimed) - {action.outcome.action_id for action in settled})

    def _attempt(
        self, connection: sa.Connection, accepted: Sequence[AcceptedAction], *, wait_s: float | None = None
    ) -> _Attempt:
        """Settle these locked actions as far as their players can be locked within ``wait_s``, without it at once."""
        if not accepted:
            return _Attempt([], [])
        # Actions first (skipping what others hold), then players in id order: no two workers deadlock.
        first = min(action.accepted_at for action in accepted if action.accepted_at)
        user_ids = sorted({action.user_id for action in accepted})
        players = settlements.lock_players(connection, user_ids, since=first - _LOOK_BACK, wait_s=wait_s)
        locked = _with_late_ones(connection, accepted, players)
        free = {player.id for player in locked}
        judged_now = [action for action in accepted if action.user_id in free]
        batch = judge_actions(uuid7(), judged_now, locked, catalogue=self.catalogue, rules=self.rules)
        return _Attempt(_write(connection, batch), [action.id for action in accepted if action.user_id not in free])

    def _settle_busy(self, action_ids: Sequence[UUID]) -> list[Settled]:
        """Settle actions whose players were locked a moment ago, most likely by another worker.

        Actions of players that stay locked are left alone once more.
        """
        if not action_ids:
            return []
        try:
            with self.database.write() as connection:
                accepted = settlements.lock_accepted(connection, action_ids)
                return self._attempt(connection, accepted, wait_s=_BUSY_WAIT_S).settled
        except PlayersBusyError:
            log.warning("players_busy", actions=len(action_ids))
        except UNAVAILABLE:
            raise
        except _REFUSED as error:
            return self._settle_apart(action_ids, error)
        with self.database.write() as connection:
            return self._attempt(connection, settlements.lock_accepted(connection, action_ids)).settled

    def _settle_apart(self, action_ids: Sequence[UUID], error: Exception) -> list[Settled]:
        """Settle one by one what could not be settled together.

        Halves of halves find one bad row among a thousand in twenty steps.
        """
        log.error("settlement_refused", error=str(error).splitlines()[0], actions=len(action_ids))
        if len(action_ids) <= 1:
            return [settled for action_id in action_ids for settled in self._fail(action_id)]
        middle = len(action_ids) // 2
        return self.settle(action_ids[:middle]) + self.settle(action_ids[middle:])

    def _fail(self, action_id: UUID) -> list[Settled]:
        """One action that the database refuses to settle in any other way; it may refuse this one too."""
        try:
            with self.database.write() as connection:
                return _write(connection, fail_actions(uuid7(), settlements.lock_accepted(connection, [action_id])))
        except UNAVAILABLE:
            raise
        except _REFUSED as error:
            # It stays accepted, and shows as the oldest that is unsettled, until the database is mended.
            log.error("action_stuck", action_id=str(action_id), error=str(error).splitlines()[0])
            return []


def _with_late_ones(
    connection: sa.Connection, accepted: Sequence[AcceptedAction], locked: Sequence[LockedPlayer]
) -> Sequence[LockedPlayer]:
    """Players of actions that a game server sent after their completion get the times around that completion too."""
    ids = {player.id for player in locked}
    since: dict[UUID, datetime] = {}
    for action in accepted:
        if action.completed_at is not None and action.user_id in ids:
            earliest = action.completed_at - _LOOK_BACK
            since[action.user_id] = min(since.get(action.user_id, earliest), earliest)
    if not since:
        return locked
    moments = settlements.completion_times(connection, since)
    return [player._replace(recent=moments.get(player.id, player.recent)) for player in locked]


def _write(connection: sa.Connection, batch: SettlementBatch) -> list[Settled]:
    if not batch.actions:
        return []
    written = settlements.write_settlement(connection, batch.settlement_id, batch.judged, batch.changes)
    if written != len(batch.actions):
        raise RuntimeError("a locked action changed its state")
    signals.record(connection, batch.signals)
    audit.record(connection, *batch.audit_events)
    return batch.settled
