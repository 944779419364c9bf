"""The answers that services build, because events, waiting requests and stored answers say the same."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from typing_extensions import TypedDict

from scoreboard.domain.accounts import Status
from scoreboard.wire import fields
from scoreboard.wire.events import OptionalReasonDetails
from scoreboard.wire.fields import EXAMPLE_TIME, Inline, about


class SettledAction(TypedDict):
    """The outcome of an action, without the address that an answer adds."""

    actionId: fields.ActionId
    status: fields.ActionStatus
    reason: fields.ReasonCode
    reasonDetails: OptionalReasonDetails
    scoreIncrement: fields.ScoreIncrement
    previousScore: fields.OptionalPreviousScore
    newScore: fields.OptionalNewScore
    previousRank: Annotated[int | None, about("the rank before it; null if not on the board, or unknown", 5)]
    rank: fields.OptionalRank
    rankChange: Annotated[int | None, about("previous rank minus new rank: positive is up", 2)]


# An account as moderators see it.
class AdminUser(TypedDict):
    id: fields.AccountId
    username: fields.Username
    email: Annotated[str | None, about("the e-mail address; null if there is none", "ada@example.org")]
    role: fields.Role
    status: Annotated[Status, Inline(), about("active, flagged (one completion a minute) or banned", "active")]
    isHidden: Annotated[bool, about("whether the account is never on the board, as admins and game servers", False)]
    score: fields.Score
    totalActions: fields.TotalActions
    lastActionAt: Annotated[
        datetime | None, about("time at which the latest applied completion was accepted", EXAMPLE_TIME)
    ]
    createdAt: Annotated[datetime, about("when the account was made", EXAMPLE_TIME)]
