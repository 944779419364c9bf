"""How the outcome of an action is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest

from scoreboard.domain.actions import State
from scoreboard.services.actions.outcomes import outcome_json, outcome_of
from scoreboard.store.actions import Action, ActionOutcome

ACTION_ID = UUID(int=1)
APPLIED = ActionOutcome(ACTION_ID, State.APPLIED, None, 0.0, 10, 20, 30, 4)


def test_an_applied_outcome_tells_score_and_rank() -> None:
    told: Mapping[str, object] = outcome_json(APPLIED, 5, 2)
    assert told == {
        "actionId": ACTION_ID,
        "status": State.APPLIED,
        "reason": None,
        "reasonDetails": None,
        "scoreIncrement": 10,
        "previousScore": 20,
        "newScore": 30,
        "previousRank": 5,
        "rank": 2,
        "rankChange": 3,
    }


@pytest.mark.parametrize(
    ("previous", "rank", "change"),
    [(5, 2, 3), (2, 5, -3), (4, 4, 0), (None, 3, None), (3, None, None), (None, None, None)],
)
def test_a_positive_rank_change_is_up(previous: int | None, rank: int | None, change: int | None) -> None:
    told = outcome_json(APPLIED, previous, rank)
    assert (told["previousRank"], told["rank"], told["rankChange"]) == (previous, rank, change)


@pytest.mark.parametrize("state", [State.HELD, State.REJECTED, State.FAILED])
def test_any_other_outcome_tells_no_score_and_no_rank(state: State) -> None:
    told: dict[str, object] = {**outcome_json(ActionOutcome(ACTION_ID, state, "BURST", 0.6), 5, 2)}
    assert (told.pop("actionId"), told.pop("status"), told.pop("reason")) == (ACTION_ID, state, "BURST")
    assert set(told.values()) == {None}
    assert told.pop("reasonDetails") is None
    assert set(told) == {"scoreIncrement", "previousScore", "newScore", "previousRank", "rank", "rankChange"}


def test_the_outcome_of_nothing_gained_is_told_as_zero() -> None:
    told = outcome_json(APPLIED._replace(score_increment=0, previous_score=0, new_score=0), 1, 1)
    assert (told["scoreIncrement"], told["previousScore"], told["newScore"], told["rankChange"]) == (0, 0, 0, 0)


def test_a_stored_action_has_the_outcome_that_was_settled() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    action = Action(
        id=ACTION_ID,
        user_id=UUID(int=2),
        issued_by=None,
        action_type="JUMP",
        metadata={},
        token_hash=b"",
        state=State.APPLIED,
        issued_at=now,
        expires_at=now,
        accepted_at=now,
        settled_at=now,
        announced_at=None,
        completion_time_ms=1,
        reported_points=None,
        body_digest=b"",
        reason=None,
        risk=0.0,
        score_increment=10,
        previous_score=20,
        new_score=30,
        standing_version=4,
        previous_rank=5,
        rank=2,
    )
    assert outcome_of(action) == APPLIED
