"""What is told to browsers after a change has been committed; names are in the past tense or say what is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from scoreboard.domain.standings import TOP_SIZE, Board, iso

INITIAL = "leaderboard:initial"
UPDATE = "leaderboard:update"
HEARTBEAT = "heartbeat"
RESET = "reset"


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: its type and the JSON object in it."""

    type: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class UpdatedUser:
    """Whose change moved the board."""

    user_id: UUID
    old_rank: int | None
    new_rank: int | None
    score_change: int

    def as_json(self) -> dict[str, object]:
        return {
            "userId": str(self.user_id),
            "oldRank": self.old_rank,
            "newRank": self.new_rank,
            "scoreChange": self.score_change,
        }


def board_event(board: Board, updated_user: Mapping[str, object] | None = None, *, is_initial: bool = False) -> Event:
    data: dict[str, object] = {
        "leaderboard": [entry.as_json() for entry in board.entries],
        "version": board.version,
        "updatedAt": iso(board.last_updated),
        "totalPlayers": board.total_players,
    }
    if is_initial:
        return Event(INITIAL, data)
    return Event(UPDATE, {**data, "updatedUser": updated_user})


def score_updated(user_id: UUID, old_score: int, new_score: int, new_rank: int | None) -> Event:
    data = {
        "userId": str(user_id),
        "oldScore": old_score,
        "newScore": new_score,
        "increment": new_score - old_score,
        "newRank": new_rank,
    }
    return Event("score:update", data)


def rank_changed(user_id: UUID, old_rank: int | None, new_rank: int | None) -> Event:
    was_in, is_in = _in_top(old_rank), _in_top(new_rank)
    data = {
        "userId": str(user_id),
        "oldRank": old_rank,
        "newRank": new_rank,
        "enteredTop10": is_in and not was_in,
        "leftTop10": was_in and not is_in,
    }
    return Event("rank:change", data)


def action_settled(
    action_id: UUID,
    status: str,
    reason: str | None,
    increment: int | None,
    new_score: int | None,
    rank: int | None,
    reason_details: Mapping[str, object] | None = None,
) -> Event:
    data: dict[str, object] = {
        "actionId": str(action_id),
        "status": status,
        "reason": reason,
        "scoreIncrement": increment,
        "newScore": new_score,
        "rank": rank,
    }
    if reason_details is not None:
        data["reasonDetails"] = reason_details
    return Event("action:result", data)


def _in_top(rank: int | None) -> bool:
    return rank is not None and rank <= TOP_SIZE
