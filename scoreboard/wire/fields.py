"""The fields that several models have: type, meaning and example, once each. A name means the same in every model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from pydantic_core import core_schema

from scoreboard.domain import accounts
from scoreboard.domain.actions import State

EXAMPLE_USER_ID = "01a2a6f0-5d6b-7c3a-9a52-0d6f3b1c7e42"
EXAMPLE_ACTION_ID = "01a2a6f1-1c80-7f7e-8b1d-5a2d94c1e013"
EXAMPLE_TIME = "2026-11-27T14:05:09.250000Z"
EXAMPLE_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2UiOiJhY2Nlc3MifQ.c2lnbmF0dXJl"  # noqa: S105
EXAMPLE_SEALED_TOKEN = "gAAAAABn…"  # noqa: S105


def about(meaning: str, example: object) -> Any:
    """The words of a field: what it means, and a value that it may have."""
    return Field(description=meaning, examples=[example])


class Inline:
    """Describes an enumeration where it is used, instead of as a schema of its own."""

    def __get_pydantic_core_schema__(self, source: type[StrEnum], _: object) -> core_schema.CoreSchema:
        return core_schema.literal_schema([value.value for value in source])


# -- accounts -----------------------------------------------------------------

UserId = Annotated[UUID, about("the player", EXAMPLE_USER_ID)]
AccountId = Annotated[UUID, about("the account", EXAMPLE_USER_ID)]
Username = Annotated[str, about("the user name", "ada")]
Role = Annotated[accounts.Role, Inline(), about("role of the account", "user")]
Score = Annotated[int, about("points", 120)]
TotalActions = Annotated[int, about("number of applied actions", 12)]

# -- actions ------------------------------------------------------------------

ActionId = Annotated[UUID, about("the action", EXAMPLE_ACTION_ID)]
ActionToken = Annotated[str, about("the token that the request returned, unchanged", EXAMPLE_SEALED_TOKEN)]
_ACTION_TYPE = about("code of an action type in the catalogue", "COMPLETE_LEVEL")
ActionTypeCode = Annotated[str, _ACTION_TYPE]
OptionalActionTypeCode = Annotated[str | None, _ACTION_TYPE]
ActionStatus = Annotated[State, Inline(), about("state of the action", "applied")]
StatusUrl = Annotated[str, about("path of the action", f"/v1/actions/{EXAMPLE_ACTION_ID}")]
IssuedAt = Annotated[
    datetime, about("time at which the token was issued; the server's clock runs from then", EXAMPLE_TIME)
]
ReasonCode = Annotated[str | None, about("code of the reason if it was not applied, else null", "COMPLETION_TIME")]
ScoreIncrement = Annotated[int | None, about("points that it brought; null unless applied", 10)]
#: The text that a moderator gives.
_REASON = about("the reason; may be null", "a prize")
Reason = Annotated[str, _REASON]
OptionalReason = Annotated[str | None, _REASON]

# -- scores and ranks ---------------------------------------------------------

Increment = Annotated[int, about("change of the score", 10)]
_NEW_SCORE, _PREVIOUS_SCORE = about("the score after it", 130), about("the score before it", 120)
NewScore = Annotated[int, _NEW_SCORE]
OptionalNewScore = Annotated[int | None, _NEW_SCORE]
PreviousScore = Annotated[int, _PREVIOUS_SCORE]
OptionalPreviousScore = Annotated[int | None, _PREVIOUS_SCORE]
_RANK = about("the rank, from 1; null if not on the board, or unknown", 3)
Rank = Annotated[int, _RANK]
OptionalRank = Annotated[int | None, _RANK]
OldRank = Annotated[int | None, about("the rank before it; null if not on the board, or unknown", 5)]
NewRank = Annotated[int | None, about("the rank after it; null if not on the board, or unknown", 3)]

# -- the board ----------------------------------------------------------------

TotalPlayers = Annotated[int, about("number of players on the board", 120)]
UpdatedAt = Annotated[datetime, about("time at which this state was reached", EXAMPLE_TIME)]
LastUpdated = Annotated[
    datetime,
    about("time at which the present score was reached; of a board, time of reading", EXAMPLE_TIME),
]
Version = Annotated[int, about("only grows; drop a board with a lower version than the one you show", 1795788309250000)]

# -- lists and the rest -------------------------------------------------------

HappenedAt = Annotated[datetime, about("when it happened; for a score, from when it counts", EXAMPLE_TIME)]
NextCursor = Annotated[str | None, about("`cursor` of the next page; null at the end", "WzE3XQ")]
ExpiresIn = Annotated[int, about("life of the token in seconds", 3600)]
StreamTicket = Annotated[str, about("opens a stream as the user that requested it", EXAMPLE_SEALED_TOKEN)]
EventKind = Annotated[str, about("kind of event, dotted lower case", "user.banned")]
Message = Annotated[str, about("for people; may change", "This does not exist, or it is not yours.")]
Details = Annotated[Mapping[str, Any], about("more about it, by kind of event", {"reason": "a prize"})]
OnBehalfOf = Annotated[UUID | None, about("the player a system account acts for", EXAMPLE_USER_ID)]
