"""Judging a batch of accepted actions: rules, points, ledger entries and the players' new state, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import structlog

from scoreboard.domain import ledger
from scoreboard.domain.accounts import Status
from scoreboard.domain.actions import MAX_SAFE_INTEGER, State, points_for, time_at
from scoreboard.domain.ledger import LedgerEntry
from scoreboard.domain.rules import CompletedAction, Consequence, History, Rule, Verdict, judge
from scoreboard.domain.standings import Standing
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.store.actions import ActionOutcome
from scoreboard.store.audit import AuditEvent
from scoreboard.store.settlements import AcceptedAction, Judged, LockedPlayer, ScoreChange
from scoreboard.store.signals import SignalRow

log = structlog.get_logger(__name__)

_STATUSES = {status.value: status for status in Status}


class Settled(NamedTuple):
    """One action's outcome as committed, the settlement it is part of, and the standing it made (if applied)."""

    settlement_id: UUID
    user_id: UUID
    outcome: ActionOutcome
    standing: Standing | None
    # Before it; None for what another process has settled.
    previous: Standing | None = None


class _PlayerState:
    """A locked player's running state within one batch."""

    __slots__ = (
        "hash", "history", "is_changed", "last_action_at", "locked", "reached_at", "score", "seq", "status",
        "total_actions", "version",
    )  # fmt: skip

    def __init__(self, locked: LockedPlayer) -> None:
        self.locked = locked
        self.score = locked.score
        self.reached_at = locked.score_reached_at
        self.version = locked.standing_version
        self.seq = locked.ledger_seq
        self.hash = bytes(locked.ledger_hash)
        self.total_actions = locked.total_actions
        self.last_action_at = locked.last_action_at
        self.status = _STATUSES[locked.status]
        self.history = History(locked.recent or ())
        self.is_changed = False

    def apply(self, action: AcceptedAction, increment: int) -> LedgerEntry:
        """Add a ledger entry; raises ValueError when the score would leave its bounds."""
        assert action.accepted_at is not None
        if self.score + increment > MAX_SAFE_INTEGER:
            raise ValueError("the score would be too large to show exactly")
        entry = ledger.append(
            user_id=self.locked.id,
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
        return Standing(
            user_id=self.locked.id,
            username=self.locked.username,
            score=self.score,
            reached_at=self.reached_at,
            version=self.version,
            is_visible=not (self.locked.is_hidden or self.status is Status.BANNED),
        )

    @property
    def change(self) -> ScoreChange:
        return ScoreChange(
            user_id=self.locked.id,
            score=self.score,
            reached_at=self.reached_at,
            standing_version=self.version,
            ledger_seq=self.seq,
            ledger_hash=self.hash,
            total_actions=self.total_actions,
            last_action_at=self.last_action_at,
            status=self.status,
        )


class Judgement(NamedTuple):
    """What one action comes to: its outcome, and what that adds to ledger, standing, signals and audit log."""

    outcome: ActionOutcome
    entry: LedgerEntry | None = None
    previous: Standing | None = None
    standing: Standing | None = None
    signals: Sequence[SignalRow] = ()
    # Beside that of the outcome itself.
    audit_events: Sequence[AuditEvent] = ()


@dataclass(frozen=True, slots=True)
class SettlementBatch:
    """What one transaction writes: actions in order, each with its judgement, and the players that they change."""

    settlement_id: UUID
    actions: Sequence[AcceptedAction]
    judgements: Sequence[Judgement]
    changes: Sequence[ScoreChange] = ()

    @property
    def judged(self) -> list[Judged]:
        return [
            Judged(action, judgement.outcome, judgement.entry)
            for action, judgement in zip(self.actions, self.judgements, strict=True)
        ]

    @property
    def settled(self) -> list[Settled]:
        """What is told once it is committed."""
        return [
            Settled(
                settlement_id=self.settlement_id,
                user_id=action.user_id,
                outcome=judgement.outcome,
                standing=judgement.standing,
                previous=judgement.previous,
            )
            for action, judgement in zip(self.actions, self.judgements, strict=True)
        ]

    @property
    def signals(self) -> list[SignalRow]:
        return [signal for judgement in self.judgements for signal in judgement.signals]

    @property
    def audit_events(self) -> list[AuditEvent]:
        return [event for judgement in self.judgements for event in judgement.audit_events]


def judge_actions(
    settlement_id: UUID,
    accepted: Sequence[AcceptedAction],
    locked: Sequence[LockedPlayer],
    *,
    catalogue: Catalogue,
    rules: Sequence[Rule],
) -> SettlementBatch:
    """Judge actions in order, each upon what the one before it made of its player; one that can't be judged fails."""
    players = {player.id: _PlayerState(player) for player in locked}
    judgements = [_judge_or_fail(action, players, catalogue=catalogue, rules=rules) for action in accepted]
    changes = [player.change for player in players.values() if player.is_changed]
    return SettlementBatch(settlement_id, accepted, judgements, changes)


def fail_actions(settlement_id: UUID, accepted: Sequence[AcceptedAction]) -> SettlementBatch:
    """Settle actions that can't be written in any other way, for an operator to see."""
    return SettlementBatch(settlement_id, accepted, [_failed(action) for action in accepted])


def _failed(action: AcceptedAction) -> Judgement:
    return Judgement(ActionOutcome(action.id, State.FAILED, reason="INTERNAL_ERROR", risk=None))


def _judge_or_fail(
    action: AcceptedAction, players: Mapping[UUID, _PlayerState], *, catalogue: Catalogue, rules: Sequence[Rule]
) -> Judgement:
    try:
        return _judge(action, players[action.user_id], catalogue=catalogue, rules=rules)
    except Exception:
        log.exception("action_failed", action_id=str(action.id))
        return _failed(action)


def _judge(action: AcceptedAction, player: _PlayerState, *, catalogue: Catalogue, rules: Sequence[Rule]) -> Judgement:
    """Judge one action and add it to its player's state. Raises LookupError or ValueError when that can't be done."""
    action_type = catalogue.get(action.action_type)
    if action_type is None:
        raise LookupError(f"the catalogue has no {action.action_type}")
    if action.played_at is None or action.completion_time_ms is None:
        raise ValueError("accepted without time or claim")
    completion = CompletedAction(
        issued_at=action.issued_at,
        completed_at=action.played_at,
        claimed_ms=action.completion_time_ms,
        min_time_ms=time_at(action_type.min_time, action.metadata),
        max_time_ms=action_type.max_time_ms,
    )
    verdict = judge(completion, player.history, rules)
    increment = points_for(action_type, action.metadata, action.reported_points, completion.elapsed_ms)
    if verdict.consequence in (Consequence.HOLD, Consequence.REJECT):
        judgement = _set_aside(action, verdict)
    else:
        judgement = _apply(action, player, increment, verdict.risk)
    signals = [SignalRow(action.id, action.user_id, signal) for signal in verdict.signals]
    flagged = [_flagged(action, verdict)] if verdict.consequence is Consequence.FLAG and player.flag() else []
    return judgement._replace(signals=signals, audit_events=flagged) if signals or flagged else judgement


def _set_aside(action: AcceptedAction, verdict: Verdict) -> Judgement:
    state = State.HELD if verdict.consequence is Consequence.HOLD else State.REJECTED
    outcome = ActionOutcome(action.id, state, reason=verdict.reason, risk=verdict.risk, reason_details=verdict.details)
    return Judgement(outcome)


def _apply(action: AcceptedAction, player: _PlayerState, increment: int, risk: float | None) -> Judgement:
    previous = player.standing
    entry = player.apply(action, increment)
    outcome = ActionOutcome(
        action_id=action.id,
        state=State.APPLIED,
        reason=None,
        risk=risk,
        score_increment=increment,
        previous_score=entry.previous_score,
        new_score=entry.new_score,
        standing_version=player.version,
    )
    return Judgement(outcome, entry, previous=previous, standing=player.standing)


def _flagged(action: AcceptedAction, verdict: Verdict) -> AuditEvent:
    details = {"actionId": str(action.id), "reason": verdict.reason}
    return AuditEvent("user.flagged", target_id=action.user_id, risk=verdict.risk, details=details)
