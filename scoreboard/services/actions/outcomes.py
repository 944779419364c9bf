"""How the outcome of an action is told, the same in every answer and event."""

from __future__ import annotations

from uuid import UUID

from scoreboard.domain.actions import State
from scoreboard.store.actions import Action, ActionOutcome
from scoreboard.wire.answers import SettledAction
from scoreboard.wire.events import as_reason_details


def outcome_json(outcome: ActionOutcome, previous_rank: int | None, rank: int | None) -> SettledAction:
    """The outcome as a completion is answered; score and rank fields are None unless applied."""
    is_applied = outcome.state is State.APPLIED
    rank_change = previous_rank - rank if is_applied and previous_rank and rank else None
    return SettledAction(
        actionId=outcome.action_id,
        status=outcome.state,
        reason=outcome.reason,
        reasonDetails=as_reason_details(outcome.reason_details),
        scoreIncrement=outcome.score_increment,
        previousScore=outcome.previous_score,
        newScore=outcome.new_score,
        previousRank=previous_rank if is_applied else None,
        rank=rank if is_applied else None,
        rankChange=rank_change,
    )


def accepted_json(action_id: UUID) -> SettledAction:
    """The same of an action that is not settled yet."""
    return outcome_json(ActionOutcome(action_id, State.ACCEPTED, None, None), None, None)


def outcome_of(action: Action) -> ActionOutcome:
    """A stored action's outcome."""
    return ActionOutcome(
        action_id=action.id,
        state=action.state,
        reason=action.reason,
        risk=action.risk,
        score_increment=action.score_increment,
        previous_score=action.previous_score,
        new_score=action.new_score,
        standing_version=action.standing_version,
        reason_details=action.reason_details,
    )
