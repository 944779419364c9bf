"""Judging a batch of accepted actions: rules, points, ledger entries and the players' new state, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import structlog

from scoreboard.domain import ledger
from scoreboard.domain.accounts import Status
from scoreboard.domain.actions import MAX_SAFE_INTEGER, State, points_for, time_at
from scoreboard.domain.ledger import LedgerEntry
from scoreboard.domain.rules import Completion, Consequence, History, Rule, Verdict, judge
from scoreboard.domain.standings import Standing
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.store import settlements
from scoreboard.store.actions import Outcome
from scoreboard.store.audit import AuditEvent
from scoreboard.store.settlements import Accepted, Judged, ScoreChange
from scoreboard.store.signals import SignalRow

log = structlog.get_logger(__name__)

_STATUSES = {status.value: status for status in Status}


class Settled(NamedTuple):
    """One action's outcome as committed, the settlement it is part of, and the standing it made (if applied)."""

    settlement_id: UUID
    user_id: UUID
    outcome: Outcome
    standing: Standing | None
    # Before it; unknown to those who tell of what another process has settled.
    previous: Standing | None = None


class _Player:
    """A locked player's running state within one batch."""

    __slots__ = (
        "hash", "history", "is_changed", "last_action_at", "reached_at", "score", "seq", "status", "total_actions",
        "user", "version",
    )  # fmt: skip

    def __init__(self, user: settlements.Player) -> None:
        self.user = user
        self.score = user.score
        self.reached_at = user.score_reached_at
        self.version = user.standing_version
        self.seq = user.ledger_seq
        self.hash = bytes(user.ledger_hash)
        self.total_actions = user.total_actions
        self.last_action_at = user.last_action_at
        self.status = _STATUSES[user.status]
        self.history = History(user.recent or ())
        self.is_changed = False

    def apply(self, action: Accepted, increment: int) -> LedgerEntry:
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
        self.last_action_at = max(self.last_action_at or action.accepted_at, action.accepted_at)
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
        is_visible = not (user.is_hidden or self.status is Status.BANNED)
        return Standing(user.id, user.username, self.score, self.reached_at, self.version, is_visible)

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
class Batch:
    """What one transaction is going to write."""

    settlement_id: UUID
    judged: list[Judged] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    changes: list[ScoreChange] = field(default_factory=list)
    signals: list[SignalRow] = field(default_factory=list)
    # Beside those of the outcomes themselves.
    audit_events: list[AuditEvent] = field(default_factory=list)

    def add(
        self,
        action: Accepted,
        outcome: Outcome,
        entry: LedgerEntry | None = None,
        standing: Standing | None = None,
        previous: Standing | None = None,
    ) -> None:
        self.judged.append(Judged(action, outcome, entry))
        self.settled.append(Settled(self.settlement_id, action.user_id, outcome, standing, previous))

    def fail(self, action: Accepted) -> None:
        """Settle an action that can't be judged or written, for an operator to see."""
        self.add(action, Outcome(action.id, State.FAILED, "INTERNAL_ERROR", None))


def judge_actions(
    accepted: Sequence[Accepted],
    locked: Sequence[settlements.Player],
    catalogue: Catalogue,
    rules: Sequence[Rule],
    batch: Batch,
) -> None:
    """Judge actions in order, each upon what the one before it made of its player; one that can't be judged fails."""
    players = {user.id: _Player(user) for user in locked}
    for action in accepted:
        try:
            _judge_one(action, players, catalogue, rules, batch)
        except Exception:
            log.exception("action_failed", action_id=str(action.id))
            batch.fail(action)
    batch.changes += [player.change for player in players.values() if player.is_changed]


def _judge_one(
    action: Accepted, players: Mapping[UUID, _Player], catalogue: Catalogue, rules: Sequence[Rule], batch: Batch
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
        time_at(action_type.min_time, action.metadata),
        action_type.max_time_ms,
    )
    player = players[action.user_id]
    verdict = judge(completion, player.history, rules)
    increment = points_for(action_type, action.metadata, action.reported_points, completion.elapsed_ms)
    if verdict.consequence in (Consequence.HOLD, Consequence.REJECT):
        state = State.HELD if verdict.consequence is Consequence.HOLD else State.REJECTED
        outcome = Outcome(action.id, state, verdict.reason, verdict.risk, reason_details=verdict.details)
        batch.add(action, outcome)
    else:
        previous = player.standing
        entry = player.apply(action, increment)
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
        batch.add(action, outcome, entry, player.standing, previous)
    batch.signals += [SignalRow(action.id, action.user_id, signal) for signal in verdict.signals]
    if verdict.consequence is Consequence.FLAG and player.flag():
        batch.audit_events.append(_flagged(action, verdict))


def _flagged(action: Accepted, verdict: Verdict) -> AuditEvent:
    details = {"actionId": str(action.id), "reason": verdict.reason}
    return AuditEvent("user.flagged", None, action.user_id, risk=verdict.risk, details=details)
