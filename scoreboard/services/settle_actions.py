"""Settling: judge accepted actions, score them, write ledger and audit, all in one transaction.

Guarded by the rows' state, so any number of deliveries, retries and races
changes a score once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

from scoreboard.domain import ledger
from scoreboard.domain.accounts import Status
from scoreboard.domain.actions import MAX_SAFE_INTEGER, State, points_for
from scoreboard.domain.ledger import LedgerEntry
from scoreboard.domain.rules import BURST_WINDOW, RULES, Completion, Consequence, History, Rule, Verdict, judge
from scoreboard.domain.standings import Standing
from scoreboard.services.catalogue import Catalogue
from scoreboard.store import actions, audit, signals, users
from scoreboard.store import ledger as ledger_store
from scoreboard.store.actions import Action, Outcome
from scoreboard.store.audit import AuditEvent
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.users import ScoreChange, User

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settled:
    """One action's outcome as committed, and the standing it made (None unless applied)."""

    user_id: UUID
    outcome: Outcome
    standing: Standing | None


@dataclass(slots=True)
class _Player:
    """A locked player's running state within one batch."""

    user: User
    score: int
    reached_at: datetime
    version: int
    seq: int
    hash: bytes
    total_actions: int
    last_action_at: datetime | None
    status: Status
    is_changed: bool = False

    @classmethod
    def of(cls, user: User) -> _Player:
        return cls(
            user,
            user.score,
            user.score_reached_at,
            user.standing_version,
            user.ledger_seq,
            user.ledger_hash,
            user.total_actions,
            user.last_action_at,
            user.status,
        )

    def apply(self, action: Action, increment: int) -> LedgerEntry:
        """Add a ledger entry; raises ValueError when the score would leave its bounds."""
        assert action.accepted_at is not None
        if self.score + increment > MAX_SAFE_INTEGER:
            raise ValueError("the score would be too large to show exactly")
        entry = ledger.append(
            user_id=self.user.id,
            seq=self.seq,
            previous_score=self.score,
            previous_hash=self.hash,
            increment=increment,
            at=action.accepted_at,
            action_id=action.id,
        )
        self.score, self.seq, self.hash = entry.new_score, entry.seq, entry.hash
        if increment:
            self.reached_at = max(self.reached_at, action.accepted_at)
        self.version += 1
        self.total_actions += 1
        self.last_action_at = max(filter(None, (self.last_action_at, action.accepted_at)))
        self.is_changed = True
        return entry

    def flag(self) -> bool:
        """Mark as suspicious; false when that (or worse) has been done before."""
        if self.status is not Status.ACTIVE:
            return False
        self.status = Status.FLAGGED
        self.is_changed = True
        return True

    @property
    def standing(self) -> Standing:
        user = self.user
        return Standing(user.id, user.username, self.score, self.reached_at, self.version, user.is_on_board)

    @property
    def change(self) -> ScoreChange:
        return ScoreChange(
            self.user.id,
            self.score,
            self.reached_at,
            self.version,
            self.seq,
            self.hash,
            self.total_actions,
            self.last_action_at,
            self.status,
        )


@dataclass(slots=True)
class _Batch:
    """What one transaction is going to write."""

    settled: list[Settled] = field(default_factory=list)
    entries: list[LedgerEntry] = field(default_factory=list)
    action_types: dict[UUID, str] = field(default_factory=dict)
    audit_events: list[AuditEvent] = field(default_factory=list)
    signals: list[signals.SignalRow] = field(default_factory=list)


def settle_actions(
    database: Database, catalogue: Catalogue, action_ids: Sequence[UUID], rules: Sequence[Rule] = RULES
) -> list[Settled]:
    """Settle those of the actions that are accepted and in nobody else's hands; committed when this returns.

    An action that can't be settled ends as ``failed`` and holds up nobody else.
    Raises SQLAlchemy's OperationalError when Postgres is down; then nothing has changed.
    """
    try:
        with database.write() as connection:
            return _settle(connection, catalogue, action_ids, rules)
    except UNAVAILABLE:
        raise
    except DBAPIError as error:
        log.error("settle_batch_refused", error=str(error.orig), actions=len(action_ids))
    return [settled for each in action_ids for settled in _settle_alone(database, catalogue, each, rules)]


def _settle_alone(database: Database, catalogue: Catalogue, action_id: UUID, rules: Sequence[Rule]) -> list[Settled]:
    """One action in a transaction of its own; the database's refusal makes it ``failed``."""
    try:
        with database.write() as connection:
            return _settle(connection, catalogue, [action_id], rules)
    except UNAVAILABLE:
        raise
    except DBAPIError as error:
        log.error("settle_action_refused", action_id=str(action_id), error=str(error.orig))
    with database.write() as connection:
        batch = _Batch()
        for action in actions.lock_accepted(connection, [action_id]):
            _fail(action, batch)
        _write(connection, batch, [])
    return batch.settled


def _settle(
    connection: sa.Connection, catalogue: Catalogue, action_ids: Sequence[UUID], rules: Sequence[Rule]
) -> list[Settled]:
    accepted = actions.lock_accepted(connection, action_ids)
    if not accepted:
        return []
    # Actions first (skipping what others hold), then players in id order: no two workers wait in a ring.
    locked = users.lock_users(connection, sorted({action.user_id for action in accepted}))
    players = {user_id: _Player.of(user) for user_id, user in locked.items()}
    first = min(action.accepted_at for action in accepted if action.accepted_at)
    recent = actions.recent_completions(connection, list(players), since=first - BURST_WINDOW)
    batch = _Batch()
    for action in accepted:
        try:
            _settle_one(action, players[action.user_id], catalogue, recent, rules, batch)
        except Exception:
            log.exception("action_failed", action_id=str(action.id))
            _fail(action, batch)
    _write(connection, batch, [player.change for player in players.values() if player.is_changed])
    return batch.settled


def _settle_one(
    action: Action,
    player: _Player,
    catalogue: Catalogue,
    recent: Mapping[UUID, Sequence[datetime]],
    rules: Sequence[Rule],
    batch: _Batch,
) -> None:
    action_type = catalogue.get(action.action_type)
    if action_type is None:
        raise LookupError(f"the catalogue has no {action.action_type}")
    if action.accepted_at is None or action.completion_time_ms is None:
        raise ValueError("accepted without time or claim")
    completion = Completion(
        action.issued_at,
        action.accepted_at,
        action.completion_time_ms,
        action_type.min_time_ms,
        action_type.max_time_ms,
    )
    verdict = judge(completion, History(recent.get(action.user_id, ())), rules)
    increment = points_for(action_type, action.metadata, action.reported_points)
    if verdict.consequence in (Consequence.HOLD, Consequence.REJECT):
        state = State.HELD if verdict.consequence is Consequence.HOLD else State.REJECTED
        settled = Settled(action.user_id, Outcome(action.id, state, verdict.reason, verdict.risk), None)
    else:
        entry = player.apply(action, increment)
        batch.entries.append(entry)
        batch.action_types[action.id] = action.action_type
        outcome = Outcome(
            action.id,
            State.APPLIED,
            None,
            verdict.risk,
            increment,
            entry.previous_score,
            entry.new_score,
            player.version,
        )
        settled = Settled(action.user_id, outcome, player.standing)
    batch.settled.append(settled)
    batch.signals += [signals.SignalRow(action.id, action.user_id, signal) for signal in verdict.signals]
    batch.audit_events.append(_audit(action, settled.outcome))
    if verdict.consequence is Consequence.FLAG and player.flag():
        batch.audit_events.append(_flagged(action, verdict))


def _fail(action: Action, batch: _Batch) -> None:
    outcome = Outcome(action.id, State.FAILED, "INTERNAL_ERROR", None)
    batch.settled.append(Settled(action.user_id, outcome, None))
    batch.audit_events.append(_audit(action, outcome))


def _audit(action: Action, outcome: Outcome) -> AuditEvent:
    details = {
        "actionId": str(action.id),
        "actionType": action.action_type,
        "increment": outcome.score_increment,
        "reason": outcome.reason,
    }
    result = {State.APPLIED: "success", State.FAILED: "error"}.get(outcome.state, "denied")
    actor = action.issued_by or action.user_id
    return AuditEvent(f"action.{outcome.state}", actor, action.user_id, result, risk=outcome.risk, details=details)


def _flagged(action: Action, verdict: Verdict) -> AuditEvent:
    details = {"actionId": str(action.id), "reason": verdict.reason}
    return AuditEvent("user.flagged", None, action.user_id, risk=verdict.risk, details=details)


def _write(connection: sa.Connection, batch: _Batch, changes: Sequence[ScoreChange]) -> None:
    written = actions.write_outcomes(connection, [settled.outcome for settled in batch.settled])
    if written != len(batch.settled):
        raise RuntimeError("a locked action changed its state")
    ledger_store.append_entries(connection, batch.entries, batch.action_types)
    users.update_scores(connection, changes)
    signals.record(connection, batch.signals)
    audit.record(connection, *batch.audit_events)
