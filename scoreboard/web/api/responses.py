"""What goes out, as models: they make the OpenAPI description, and tests hold the answers against them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Answer(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)


Role = Literal["user", "admin", "system"]
Status = Literal["active", "flagged", "banned"]
ActionStatus = Literal["issued", "accepted", "applied", "held", "rejected", "expired", "failed"]


class SignedInUser(Answer):
    id: UUID
    username: str
    role: Role
    score: int


class SignIn(Answer):
    access_token: str
    refresh_token: str
    expires_in: int = Field(description="seconds until the access token ends")
    user: SignedInUser


class Nothing(Answer):
    pass


class PointsInfo(Answer):
    kind: Literal["fixed", "computed", "reported"]
    value: int | None = Field(None, description="of fixed points")
    base: float | None = Field(
        None, description="of computed points: times a factor per name in multiply, rounded down"
    )
    multiply: dict[str, dict[str, float] | None] | None = Field(
        None, description="metadata name → factor by value; null: the metadata number itself"
    )
    maximum: int


TimesBy = dict[str, dict[str, int]]


class SpeedInfo(Answer):
    full_ms: int | None = Field(description="up to this time all points count; null where fullMsBy tells")
    full_ms_by: TimesBy | None = Field(description="metadata name → time by value")
    least_ms: int | None = Field(description="from this time on only the least share; null where leastMsBy tells")
    least_ms_by: TimesBy | None = Field(description="metadata name → time by value")
    least: float = Field(description="the share of the points that is left from leastMs on")


class ActionTypeInfo(Answer):
    code: str
    title: str
    points: PointsInfo
    min_time_ms: int = Field(description="the least time that any metadata allows")
    min_time_ms_by: TimesBy | None = Field(
        description="metadata name → least time by value; null if there is one time for all"
    )
    max_time_ms: int
    speed: SpeedInfo | None = Field(
        description="fall of the points with time, by the service’s clock; null if they don’t fall"
    )
    metadata_schema: dict[str, Any]


class ActionTypes(Answer):
    types: list[ActionTypeInfo]


class IssuedAction(Answer):
    action_id: UUID
    action_token: str
    proof_key: str
    issued_at: datetime
    expires_at: datetime
    max_points: int


class Accepted(Answer):
    action_id: UUID
    status: Literal["accepted"]
    status_url: str


class ReasonDetails(Answer):
    """Which bound was broken, and by how much."""

    clock: Literal["server", "client"] = Field(
        description="clock that measured: the server's own, or the client's claim"
    )
    bound: Literal["minimum", "maximum"] = Field(description="minimum: it was too quick; maximum: it took too long")
    bound_ms: int = Field(description="the bound, in milliseconds")
    actual_ms: int = Field(description="what was measured, in milliseconds")


class Outcome(Answer):
    action_id: UUID
    status: ActionStatus
    status_url: str
    reason: str | None
    reason_details: ReasonDetails | None = Field(description="the broken bound; null for other reasons")
    score_increment: int | None
    previous_score: int | None
    new_score: int | None
    previous_rank: int | None
    rank: int | None
    rank_change: int | None = Field(description="previous rank minus new rank: positive is up")


class ActionInfo(Answer):
    action_id: UUID
    action_type: str
    status: ActionStatus
    reason: str | None
    reason_details: ReasonDetails | None = Field(description="the broken bound; null for other reasons")
    issued_at: datetime
    accepted_at: datetime | None
    settled_at: datetime | None
    score_increment: int | None
    previous_score: int | None
    new_score: int | None
    rank: int | None
    data: str | None = Field(description="what came with the proof")


class BoardRow(Answer):
    rank: int
    user_id: UUID
    username: str
    score: int
    updated_at: datetime


class BoardInfo(Answer):
    leaderboard: list[BoardRow]
    total_players: int
    last_updated: datetime
    version: int


class UpdatedUser(Answer):
    user_id: UUID
    old_rank: int | None
    new_rank: int | None
    score_change: int


class LeaderboardInitialEvent(Answer):
    """`leaderboard:initial`, to all streams on connecting."""

    leaderboard: list[BoardRow]
    version: int
    updated_at: datetime
    total_players: int


class LeaderboardUpdateEvent(LeaderboardInitialEvent):
    """`leaderboard:update`, to all streams when the first ten change."""

    updated_user: UpdatedUser | None


class ActionResultEvent(Answer):
    """`action:result`, to the player."""

    action_id: UUID
    status: ActionStatus
    reason: str | None
    reason_details: ReasonDetails | None = Field(None, description="the broken bound; only with those reasons")
    score_increment: int | None
    new_score: int | None
    rank: int | None


class ScoreUpdateEvent(Answer):
    """`score:update`, to the player."""

    user_id: UUID
    old_score: int
    new_score: int
    increment: int
    new_rank: int | None


class RankChangeEvent(Answer):
    """`rank:change`, to the player."""

    user_id: UUID
    old_rank: int | None
    new_rank: int | None
    entered_top10: bool = Field(alias="enteredTop10")
    left_top10: bool = Field(alias="leftTop10")


class ResetEvent(Answer):
    """`reset`: something was missed that is gone; read again what you keep."""

    reason: str


class HeartbeatEvent(Answer):
    """`heartbeat`, to all streams at a steady pace."""

    version: int


class RefusedEvent(Answer):
    """`refused`: the only event of a stream that was refused, where `refusals=event` asked for it."""

    status: int = Field(description="the status of the refusal")
    code: str = Field(description="its code, as in `error.code`")
    message: str
    details: dict[str, Any]
    retry_after: int | None = Field(description="in how many seconds to try again; null where that would not help")


#: By the name of the event.
STREAM_EVENTS: dict[str, type[Answer]] = {
    "leaderboard:initial": LeaderboardInitialEvent,
    "leaderboard:update": LeaderboardUpdateEvent,
    "action:result": ActionResultEvent,
    "score:update": ScoreUpdateEvent,
    "rank:change": RankChangeEvent,
    "reset": ResetEvent,
    "heartbeat": HeartbeatEvent,
    "refused": RefusedEvent,
}


class Ticket(Answer):
    ticket: str
    expires_in: int


class ScoreInfo(Answer):
    user_id: UUID
    username: str
    score: int
    rank: int | None
    percentile: float | None = Field(description="players below ÷ (players − 1) × 100; 100 when alone")
    total_actions: int
    last_updated: datetime


class HistoryItem(Answer):
    action_id: UUID | None = Field(description="null for an adjustment")
    action_type: str | None
    previous_score: int
    increment: int
    new_score: int
    reason: str | None
    at: datetime


class HistoryPage(Answer):
    items: list[HistoryItem]
    next_cursor: str | None


class AdminUser(Answer):
    id: UUID
    username: str
    email: str | None
    role: Role
    status: Status
    is_hidden: bool
    score: int
    total_actions: int
    last_action_at: datetime | None
    created_at: datetime


class AdminUsersPage(Answer):
    items: list[AdminUser]
    next_cursor: str | None


class AuditItem(Answer):
    id: int | UUID = Field(description="a number; of action.applied the action's id")
    at: datetime
    event: str
    actor_id: UUID | None
    target_id: UUID | None
    ip: str | None
    user_agent: str | None
    result: str
    risk: float | None
    details: dict[str, Any]


class AuditPage(Answer):
    items: list[AuditItem]
    next_cursor: str | None


class RebuildStarted(Answer):
    status: Literal["started"]


class Stats(Answer):
    players: int
    accounts: dict[str, int]
    streams_here: int = Field(description="open streams of the web process that answered")
    unsettled: int
    oldest_unsettled_s: float
    unannounced: int
    board_version: int


class Health(Answer):
    status: Literal["ok", "degraded"]


class PartInfo(Answer):
    status: Literal["ok", "degraded", "down"]
    latency_ms: float | None
    detail: str | None


class DetailedHealth(Answer):
    status: Literal["ok", "degraded"]
    version: str
    parts: dict[str, PartInfo]
