"""Response models: views build answers of them, and the OpenAPI description is made of them.

The order of the fields is their order on the wire. Models shared with services and the stream are in
``scoreboard.wire``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID

from typing_extensions import TypedDict

from scoreboard.web.api.refusals import EXAMPLE_ERROR, ErrorInfo
from scoreboard.wire import fields
from scoreboard.wire.answers import AdminUser as AdminUser
from scoreboard.wire.answers import SettledAction
from scoreboard.wire.events import OptionalReasonDetails, Rows
from scoreboard.wire.fields import EXAMPLE_TIME, EXAMPLE_TOKEN, EXAMPLE_USER_ID, about

# -- sign-ins -----------------------------------------------------------------


class SignedInUser(TypedDict):
    id: fields.AccountId
    username: fields.Username
    role: fields.Role
    score: fields.Score


_SIGNED_IN = {"id": EXAMPLE_USER_ID, "username": "ada", "role": "user", "score": 120}


class SignIn(TypedDict):
    accessToken: Annotated[str, about("bearer token of every call", EXAMPLE_TOKEN)]
    refreshToken: Annotated[str, about("buys the next pair of tokens, once", EXAMPLE_TOKEN)]
    expiresIn: Annotated[int, about("seconds until the access token ends", 3600)]
    user: Annotated[SignedInUser, about("the signed-in account", _SIGNED_IN)]


class Nothing(TypedDict):
    pass


# -- actions ------------------------------------------------------------------

_EXAMPLE_NEXT = {"actionId": "01a2a6f2-4b10-7d15-a0c4-6a1f0e9b77d1", "status": "applied"}
_EXAMPLE_NEXT_REFUSAL = {
    "code": "TOO_MANY_OPEN_ACTIONS",
    "message": "Complete an open action first, or let one expire.",
    "details": {"retryAfter": 12},
}


class PointsInfo(TypedDict):
    kind: Annotated[Literal["fixed", "computed", "reported"], about("kind of points", "computed")]
    maximum: Annotated[int, about("the most that an action of this type can bring", 100)]
    value: NotRequired[Annotated[int | None, about("of fixed points", 1)]]
    base: NotRequired[
        Annotated[float | None, about("of computed points: times a factor per name in multiply, rounded down", 10.0)]
    ]
    multiply: NotRequired[
        Annotated[
            Mapping[str, Mapping[str, float] | None] | None,
            about(
                "metadata name → factor by value; null: the metadata number itself",
                {"difficulty": {"easy": 1.0, "hard": 5.0}},
            ),
        ]
    ]


#: A time in milliseconds for each value of one metadata property.
TimesBy = Mapping[str, Mapping[str, int]]


class SpeedInfo(TypedDict):
    fullMs: Annotated[int | None, about("up to this time all points count; null where fullMsBy tells", 4000)]
    fullMsBy: Annotated[TimesBy | None, about("metadata name → time by value", {"difficulty": {"easy": 4000}})]
    leastMs: Annotated[int | None, about("from this time on only the least share; null where leastMsBy tells", 20000)]
    leastMsBy: Annotated[TimesBy | None, about("metadata name → time by value", {"difficulty": {"easy": 20000}})]
    least: Annotated[float, about("the share of the points that is left from leastMs on", 0.5)]


class ActionTypeInfo(TypedDict):
    code: Annotated[str, about("the action type's code", "COMPLETE_LEVEL")]
    title: Annotated[str, about("for people", "Complete a level")]
    points: Annotated[PointsInfo, about("the worth of a completion", {"kind": "fixed", "value": 1, "maximum": 1})]
    minTimeMs: Annotated[int, about("the least time that any metadata allows", 1000)]
    minTimeMsBy: Annotated[
        TimesBy | None,
        about("metadata name → least time by value; null if there is one time for all", {"difficulty": {"easy": 1000}}),
    ]
    maxTimeMs: Annotated[int, about("the longest time, in milliseconds, by either clock", 300000)]
    speed: Annotated[
        SpeedInfo | None,
        about("fall of the points with time, by the service’s clock; null if they don’t fall", None),
    ]
    metadataSchema: Annotated[Mapping[str, Any], about("JSON Schema of the metadata", {"type": "object"})]


class ActionTypes(TypedDict):
    types: Annotated[list[ActionTypeInfo], about("the catalogue", [])]


class IssuedAction(TypedDict):
    actionId: fields.ActionId
    actionToken: fields.ActionToken
    proofKey: Annotated[str, about("key of the proof's checksum, as UTF-8", "r8o5ljzS8SgtseXyNsalU24teVxWtFHy")]
    issuedAt: fields.IssuedAt
    expiresAt: Annotated[datetime, about("end of the token's life", EXAMPLE_TIME)]
    maxPoints: Annotated[int, about("the most that this action can bring", 10)]


class NextState(TypedDict):
    """What became of the next action whose token is used up or has expired."""

    actionId: fields.ActionId
    status: fields.ActionStatus


class NextRefused(TypedDict):
    """Why there is no next action; the completion stands."""

    error: Annotated[ErrorInfo, about("the refusal and its reason", _EXAMPLE_NEXT_REFUSAL)]


Next = Annotated[
    IssuedAction | NextState | NextRefused,
    about("of a completion with `next`: the token, or what became of its action, or why there is none", _EXAMPLE_NEXT),
]


class Accepted(TypedDict):
    actionId: fields.ActionId
    status: Annotated[Literal["accepted"], about("committed, and settled soon", "accepted")]
    statusUrl: fields.StatusUrl
    next: NotRequired[Next]


#: Of a batch.
RowIndex = Annotated[int, about("number of the row, from 0", 0)]


class Outcome(SettledAction):
    statusUrl: fields.StatusUrl  # noqa: N815 - ruff doesn't see that the base is a TypedDict
    next: NotRequired[Next]


class _TakenRow(TypedDict):
    index: RowIndex
    externalId: Annotated[str, about("the game server's own id of the action", "match-17-3")]


# A row of a batch that was taken in; its score fields are null unless applied.
class BatchOutcome(_TakenRow, SettledAction):
    statusUrl: fields.StatusUrl


# A row of a batch that was refused: nothing of it is kept, and it may be sent again.
class BatchRefusal(TypedDict):
    index: RowIndex
    externalId: Annotated[
        str | None, about("the game server's own id of the action; null if there is none to be read", "match-17-3")
    ]
    error: Annotated[ErrorInfo, about("the refusal and its reason", EXAMPLE_ERROR)]


class BatchResult(TypedDict):
    items: Annotated[list[BatchOutcome | BatchRefusal], about("one per row, in their order", [])]


class ActionInfo(TypedDict):
    actionId: fields.ActionId
    actionType: fields.ActionTypeCode
    status: fields.ActionStatus
    reason: fields.ReasonCode
    reasonDetails: OptionalReasonDetails
    issuedAt: fields.IssuedAt
    acceptedAt: Annotated[datetime | None, about("time at which the completion was accepted", EXAMPLE_TIME)]
    settledAt: Annotated[datetime | None, about("time at which its outcome was decided", EXAMPLE_TIME)]
    scoreIncrement: fields.ScoreIncrement
    previousScore: fields.OptionalPreviousScore
    newScore: fields.OptionalNewScore
    rank: fields.OptionalRank
    data: Annotated[str | None, about("what came with the proof", "lap 3")]


# -- the board, the stream, players -------------------------------------------


class BoardInfo(TypedDict):
    leaderboard: Rows
    totalPlayers: fields.TotalPlayers
    lastUpdated: fields.LastUpdated
    version: fields.Version


class Ticket(TypedDict):
    ticket: fields.StreamTicket
    expiresIn: fields.ExpiresIn


class ScoreInfo(TypedDict):
    userId: fields.UserId
    username: fields.Username
    score: fields.Score
    rank: fields.OptionalRank
    percentile: Annotated[float | None, about("players below ÷ (players − 1) × 100; 100 when alone", 87.5)]
    totalActions: fields.TotalActions
    lastUpdated: fields.LastUpdated


class HistoryItem(TypedDict):
    actionId: Annotated[UUID | None, about("null for an adjustment", fields.EXAMPLE_ACTION_ID)]
    actionType: fields.OptionalActionTypeCode
    previousScore: fields.PreviousScore
    increment: fields.Increment
    newScore: fields.NewScore
    reason: fields.OptionalReason
    at: fields.HappenedAt


_PAGE = about("this page, newest first", [])


class HistoryPage(TypedDict):
    items: Annotated[list[HistoryItem], _PAGE]
    nextCursor: fields.NextCursor


# -- administration -----------------------------------------------------------


class AdminUsersPage(TypedDict):
    items: Annotated[list[AdminUser], _PAGE]
    nextCursor: fields.NextCursor


class AuditItem(TypedDict):
    id: Annotated[int | UUID, about("a number; of action.applied the action's id", 17)]
    at: fields.HappenedAt
    event: fields.EventKind
    actorId: Annotated[UUID | None, about("the account that did it; null for the service itself", EXAMPLE_USER_ID)]
    targetId: Annotated[UUID | None, about("the account that was acted upon; null if there is none", EXAMPLE_USER_ID)]
    ip: Annotated[
        str | None, about("the client's address, found behind the trusted proxies; null if unknown", "192.0.2.7")
    ]
    userAgent: Annotated[str | None, about("the client's `User-Agent`", "Mozilla/5.0")]
    result: Annotated[str, about("success, denied or error", "success")]
    risk: Annotated[float | None, about("0 to 1; null if it was not judged", 0.6)]
    details: fields.Details


class AuditPage(TypedDict):
    items: Annotated[list[AuditItem], _PAGE]
    nextCursor: fields.NextCursor


class RebuildStarted(TypedDict):
    status: Annotated[Literal["started"], about("a worker does it", "started")]


class Stats(TypedDict):
    players: Annotated[int, about("number of players on the board", 120)]
    accounts: Annotated[dict[str, int], about("accounts by status", {"active": 120, "flagged": 2, "banned": 1})]
    streamsHere: Annotated[int, about("open streams of the web process that answered", 12)]
    unsettled: Annotated[int, about("accepted actions that are not settled yet", 0)]
    oldestUnsettledS: Annotated[float, about("age of the oldest accepted action that is not settled, in seconds", 0.04)]
    unannounced: Annotated[int, about("settled actions that are not announced yet", 0)]
    boardVersion: Annotated[int, about("the board's version now", 1795788309250000)]


# -- operations ---------------------------------------------------------------


class Health(TypedDict):
    status: Annotated[Literal["ok", "degraded"], about("whether it can serve", "ok")]


class PartInfo(TypedDict):
    status: Annotated[Literal["ok", "degraded", "down"], about("state of this dependency", "ok")]
    latencyMs: Annotated[float | None, about("how long it took to answer, in milliseconds", 0.8)]
    detail: Annotated[str | None, about("details of its state; may be null", "no answer within 3 s")]


class DetailedHealth(TypedDict):
    status: Annotated[Literal["ok", "degraded"], about("whether it can serve, and does so in full", "ok")]
    version: Annotated[str, about("of the service", "1.0.0")]
    parts: Annotated[dict[str, PartInfo], about("by name: postgres, redis, broker, workers …", {})]
