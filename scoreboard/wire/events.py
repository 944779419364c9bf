"""The live stream's events: the data of each, and how it is built. They are sent after their change is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, cast
from uuid import UUID

from typing_extensions import TypedDict

from scoreboard.domain.actions import State
from scoreboard.domain.standings import TOP_SIZE, Board, BoardEntry
from scoreboard.wire import fields
from scoreboard.wire.fields import about

INITIAL = "leaderboard:initial"
UPDATE = "leaderboard:update"
HEARTBEAT = "heartbeat"
RESET = "reset"
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: its type and the JSON object in it."""

    type: str
    data: Mapping[str, object]


# -- the data -----------------------------------------------------------------


class BoardRow(TypedDict):
    rank: fields.Rank
    userId: fields.UserId
    username: fields.Username
    score: fields.Score
    updatedAt: fields.UpdatedAt


Rows = Annotated[list[BoardRow], about("rows in the board's order", [])]


class UpdatedUser(TypedDict):
    userId: fields.UserId
    oldRank: fields.OldRank
    newRank: fields.NewRank
    scoreChange: Annotated[int, about("change of the score", 10)]


class LeaderboardInitialEvent(TypedDict):
    """`leaderboard:initial`, to all streams on connecting."""

    leaderboard: Rows
    version: fields.Version
    updatedAt: fields.UpdatedAt
    totalPlayers: fields.TotalPlayers


class LeaderboardUpdateEvent(LeaderboardInitialEvent):
    """`leaderboard:update`, to all streams when the first ten change."""

    updatedUser: Annotated[UpdatedUser | None, about("the last player whose change shows; may be null", None)]


class ReasonDetails(TypedDict):
    """Which bound was broken, and by how much."""

    clock: Annotated[
        Literal["server", "client"],
        about("clock that measured: the server's own, or the client's claim", "server"),
    ]
    bound: Annotated[
        Literal["minimum", "maximum"], about("minimum: it was too quick; maximum: it took too long", "minimum")
    ]
    boundMs: Annotated[int, about("the bound, in milliseconds", 1000)]
    actualMs: Annotated[int, about("what was measured, in milliseconds", 412)]


_BROKEN_BOUND = {"clock": "server", "bound": "minimum", "boundMs": 1000, "actualMs": 412}
OptionalReasonDetails = Annotated[
    ReasonDetails | None, about("the broken bound; null for other reasons", _BROKEN_BOUND)
]


class ActionResultEvent(TypedDict):
    """`action:result`, to the player."""

    actionId: fields.ActionId
    status: fields.ActionStatus
    reason: fields.ReasonCode
    scoreIncrement: fields.ScoreIncrement
    newScore: fields.OptionalNewScore
    rank: fields.OptionalRank
    reasonDetails: NotRequired[
        Annotated[ReasonDetails | None, about("the broken bound; only with those reasons", _BROKEN_BOUND)]
    ]


class ScoreUpdateEvent(TypedDict):
    """`score:update`, to the player."""

    userId: fields.UserId
    oldScore: Annotated[int, about("the score before it", 120)]
    newScore: fields.NewScore
    increment: fields.Increment
    newRank: fields.NewRank


class RankChangeEvent(TypedDict):
    """`rank:change`, to the player."""

    userId: fields.UserId
    oldRank: fields.OldRank
    newRank: fields.NewRank
    enteredTop10: Annotated[bool, about("whether the player has come into the first ten", True)]
    leftTop10: Annotated[bool, about("whether the player has fallen out of the first ten", False)]


class ResetEvent(TypedDict):
    """`reset`: missed events are gone; read your data again."""

    reason: Annotated[str, about("the reason why events after the given id are gone", "gone")]


class HeartbeatEvent(TypedDict):
    """`heartbeat`, to all streams at a steady pace."""

    version: fields.Version


class RefusedEvent(TypedDict):
    """`refused`: the only event of a stream that was refused, where `refusals=event` asked for it."""

    status: Annotated[int, about("the status of the refusal", 429)]
    code: Annotated[str, about("its code, as in `error.code`", "TOO_MANY_STREAMS")]
    message: fields.Message
    details: fields.Details
    retryAfter: Annotated[int | None, about("in how many seconds to try again; null where that would not help", 58)]


#: By the name of the event.
STREAM_EVENTS: dict[str, type[Any]] = {
    INITIAL: LeaderboardInitialEvent,
    UPDATE: LeaderboardUpdateEvent,
    "action:result": ActionResultEvent,
    "score:update": ScoreUpdateEvent,
    "rank:change": RankChangeEvent,
    RESET: ResetEvent,
    HEARTBEAT: HeartbeatEvent,
    REFUSED: RefusedEvent,
}


# -- building them ------------------------------------------------------------


def board_row(entry: BoardEntry) -> BoardRow:
    return BoardRow(
        rank=entry.rank,
        userId=entry.user_id,
        username=entry.username,
        score=entry.score,
        updatedAt=entry.updated_at,
    )


def board_shown(board: Board) -> Event:
    """`leaderboard:initial`."""
    return Event(INITIAL, _board_data(board))


def board_updated(board: Board, updated_user: UpdatedUser | None) -> Event:
    """`leaderboard:update`."""
    return Event(UPDATE, LeaderboardUpdateEvent(**_board_data(board), updatedUser=updated_user))


def _board_data(board: Board) -> LeaderboardInitialEvent:
    return LeaderboardInitialEvent(
        leaderboard=[board_row(entry) for entry in board.entries],
        version=board.version,
        updatedAt=board.last_updated,
        totalPlayers=board.total_players,
    )


def history_lost(reason: str) -> Event:
    """`reset`."""
    return Event(RESET, ResetEvent(reason=reason))


def heartbeat(version: int) -> Event:
    return Event(HEARTBEAT, HeartbeatEvent(version=version))


def score_updated(user_id: UUID, old_score: int, new_score: int, new_rank: int | None) -> Event:
    data = ScoreUpdateEvent(
        userId=user_id,
        oldScore=old_score,
        newScore=new_score,
        increment=new_score - old_score,
        newRank=new_rank,
    )
    return Event("score:update", data)


def rank_changed(user_id: UUID, old_rank: int | None, new_rank: int | None) -> Event:
    was_in, is_in = _in_top(old_rank), _in_top(new_rank)
    data = RankChangeEvent(
        userId=user_id,
        oldRank=old_rank,
        newRank=new_rank,
        enteredTop10=is_in and not was_in,
        leftTop10=was_in and not is_in,
    )
    return Event("rank:change", data)


def action_settled(
    action_id: UUID,
    status: State,
    reason: str | None,
    increment: int | None,
    new_score: int | None,
    rank: int | None,
    reason_details: Mapping[str, object] | None = None,
) -> Event:
    data = ActionResultEvent(
        actionId=action_id,
        status=status,
        reason=reason,
        scoreIncrement=increment,
        newScore=new_score,
        rank=rank,
    )
    if reason_details is not None:
        data["reasonDetails"] = as_reason_details(reason_details)
    return Event("action:result", data)


def as_reason_details(details: Mapping[str, object] | None) -> ReasonDetails | None:
    """Explanations of rules have this shape, also those from the database: see ``domain.rules``."""
    return cast("ReasonDetails | None", details)


def _in_top(rank: int | None) -> bool:
    return rank is not None and rank <= TOP_SIZE
