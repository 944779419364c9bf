"""Request models: they validate bodies and query strings and make the OpenAPI description."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation
from pydantic.alias_generators import to_camel

from scoreboard.domain.accounts import PASSWORD_MAX, PASSWORD_MIN, USERNAME_MAX, USERNAME_MIN
from scoreboard.domain.actions import DATA_MAX_BYTES, MAX_SAFE_INTEGER
from scoreboard.domain.characters import find_refused_in_text, is_visible
from scoreboard.services.actions.batch import BATCH_MAX, EXTERNAL_ID_MAX
from scoreboard.services.actions.tokens import TOKEN_MAX_LENGTH
from scoreboard.wire import fields
from scoreboard.wire.fields import (
    EXAMPLE_ACTION_ID,
    EXAMPLE_SEALED_TOKEN,
    EXAMPLE_TIME,
    EXAMPLE_TOKEN,
    EXAMPLE_USER_ID,
    about,
)

# Longer ones than RFC 5321 allows are not addresses.
_EMAIL_MAX = 254
_REASON_MAX = 500
# Metadata describes a level or a problem. Deeper nesting is an attack on the stack.
_DEPTH_MAX = 16


class Request(BaseModel):
    """A JSON body: camelCase names, no unknown fields, no conversions."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, populate_by_name=False)


class Query(BaseModel):
    """A query string: text becomes numbers where a number is asked for."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=False)


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    return value


def _check_email(value: str) -> str:
    try:
        return validate_email(_no_nul(value), check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError("is not an e-mail address") from None


def _check_data(value: str) -> str:
    if len(value.encode()) > DATA_MAX_BYTES:
        raise ValueError(f"has more than {DATA_MAX_BYTES} bytes")
    return _no_nul(value)


def _check_reason(value: str) -> str:
    if not is_visible(value):
        raise ValueError("must not be empty")
    if (refused := find_refused_in_text(value)) is not None:
        raise ValueError(f"must not contain the character U+{ord(refused):04X}")
    return value


def _no_nul_inside(value: dict[str, Any]) -> dict[str, Any]:
    _walk(value)
    return value


def _walk(value: object, depth: int = 0) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError(f"is nested more than {_DEPTH_MAX} deep")
    if isinstance(value, str):
        _no_nul(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _no_nul(key)
            _walk(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _walk(item, depth + 1)


def _parse_uuid(value: object) -> object:
    # A body's ids are text; strict mode would take UUID objects only.
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            raise ValueError("is not a UUID") from None
    return value


def in_utc(value: datetime) -> datetime:
    """Postgres takes offsets up to 16 hours only, Python and RFC 3339 up to 24. Raises ValueError."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


# RFC 3339; Python's own reader takes weeks and times without seconds as well.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _parse_moment(value: object) -> object:
    # A body's times are text; strict mode would take datetime objects only.
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("is not a time with its zone, as 2026-11-27T14:05:09.250Z")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is no time of the calendar") from None


Moment = Annotated[AwareDatetime, AfterValidator(in_utc)]
BodyMoment = Annotated[AwareDatetime, BeforeValidator(_parse_moment), AfterValidator(in_utc)]
Id = Annotated[UUID, BeforeValidator(_parse_uuid)]
_EXAMPLE_PROOF = {"completionTime": 4200, "checksum": "a195642d" * 8}
Email = Annotated[
    str, Field(max_length=_EMAIL_MAX, json_schema_extra={"format": "email"}), AfterValidator(_check_email)
]
Reason = Annotated[
    str,
    Field(min_length=1, max_length=_REASON_MAX),
    AfterValidator(_check_reason),
    about("the reason; may be null", "a prize"),
]
SafeInteger = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
Limit = Annotated[int, Field(ge=1, le=100), about("number of rows at most, 1 to 100", 20)]
OnBehalfOf = Annotated[Id | None, about("the player a system account acts for", EXAMPLE_USER_ID)]
Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_no_nul_inside),
    about("description of the action, by the type's `metadataSchema`", {"difficulty": "easy"}),
]
Points = Annotated[SafeInteger | None, about("the points reached, for types whose points are reported", 87)]
Data = Annotated[Annotated[str, AfterValidator(_check_data)] | None, about("at most 2,048 bytes of UTF-8", "lap 3")]
Cookies = Annotated[bool, about("set HttpOnly cookies too, for browsers", False)]


# -- requests -----------------------------------------------------------------


class Register(Request):
    username: str = Field(
        # Composed characters count once, so more may come in; the description states the rule.
        max_length=4 * USERNAME_MAX,
        description=f"{USERNAME_MIN} to {USERNAME_MAX} characters, any script",
        examples=["ada"],
        json_schema_extra={"minLength": USERNAME_MIN, "maxLength": USERNAME_MAX},
    )
    email: Annotated[Email | None, about("optional; nothing is sent to it", "ada@example.org")] = None
    password: str = Field(
        max_length=4 * PASSWORD_MAX,
        description=f"{PASSWORD_MIN} to {PASSWORD_MAX} characters, none of the commonest passwords",
        examples=["correct horse battery"],
        json_schema_extra={"minLength": PASSWORD_MIN, "maxLength": PASSWORD_MAX},
    )
    cookies: Cookies = False


class Login(Request):
    username: Annotated[fields.Username, AfterValidator(_no_nul)] = Field(min_length=1, max_length=4 * USERNAME_MAX)
    password: Annotated[str, about("the password", "correct horse battery")] = Field(
        min_length=1, max_length=4 * PASSWORD_MAX
    )
    cookies: Cookies = False


class Refresh(Request):
    refresh_token: Annotated[str | None, about("may come as bearer token or cookie instead", EXAMPLE_TOKEN)] = Field(
        None, max_length=4096
    )


class NextAction(Request):
    action_type: fields.ActionTypeCode = Field(min_length=1, max_length=50)
    metadata: Metadata = Field(default_factory=dict)


class ActionRequest(NextAction):
    on_behalf_of: OnBehalfOf = None


class ProofBody(Request):
    completion_time: Annotated[SafeInteger, about("milliseconds, by the client's own clock", 4200)]
    checksum: Annotated[
        str,
        about(
            "hex HMAC-SHA256 keyed with proofKey over actionId:completionTime:points:data",
            _EXAMPLE_PROOF["checksum"],
        ),
    ] = Field(pattern="^[0-9a-f]{64}$")
    points: Points = None
    data: Data = None


class ActionCompletion(Request):
    action_id: Annotated[Id, about("the action", EXAMPLE_ACTION_ID)]
    action_token: fields.ActionToken = Field(min_length=1, max_length=TOKEN_MAX_LENGTH)
    proof: Annotated[ProofBody, about("the proof that the action was done", _EXAMPLE_PROOF)]
    on_behalf_of: OnBehalfOf = None
    # As it came: what is wrong with it is told in its place in the answer, and harms nothing else.
    next: Annotated[
        SkipValidation[NextAction | None],
        about(
            "the action to be issued next; its refusal is told in the answer’s `next`",
            {"actionType": "COMPLETE_LEVEL", "metadata": {"difficulty": "easy"}},
        ),
    ] = None


class FinishedAction(Request):
    """One row of a batch; a row that does not fit is refused alone."""

    external_id: Annotated[
        str, AfterValidator(_no_nul), about("the game server's own id of the action", "match-17-3")
    ] = Field(min_length=1, max_length=EXTERNAL_ID_MAX)
    user_id: Annotated[Id, about("the player who did it", EXAMPLE_USER_ID)]
    action_type: fields.ActionTypeCode = Field(min_length=1, max_length=50)
    metadata: Metadata = Field(default_factory=dict)
    started_at: Annotated[BodyMoment, about("when it began, by the game server's clock", EXAMPLE_TIME)]
    completed_at: Annotated[
        BodyMoment, about("when it was completed: from 24 hours ago to 2 s ahead of the service's clock", EXAMPLE_TIME)
    ]
    points: Points = None
    data: Data = None


class Batch(Request):
    actions: Annotated[list[FinishedAction], about("the finished actions; each is taken or refused by itself", [])] = (
        Field(max_length=BATCH_MAX)
    )


class ReasonBody(Request):
    reason: Reason


class Adjustment(Request):
    amount: Annotated[int, Field(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER), about("points to add; not 0", 25)]
    reason: Reason


# -- query strings --------------------------------------------------------------


class NoQuery(Query):
    pass


class BoardQuery(Query):
    limit: Limit = 10
    offset: Annotated[int, about("how many rows to skip", 0)] = Field(0, ge=0, le=MAX_SAFE_INTEGER // 2)


class AroundQuery(Query):
    radius: Annotated[int, about("how many rows on each side, 0 to 50", 5)] = Field(5, ge=0, le=50)


class StreamQuery(Query):
    # An EventSource gives up for good on a refusal: unknown and repeated names are ignored, and no value is too long.
    model_config = ConfigDict(extra="ignore")

    ticket: Annotated[str | None, about("opens a stream as the user that requested it", EXAMPLE_SEALED_TOKEN)] = None
    last_event_id: Annotated[
        str | None, about("the last id that was received; the header `Last-Event-ID` wins", "1795788309250:42")
    ] = None
    refusals: Annotated[
        str | None,
        about("`event`: a 401, 403, 429 or 503 comes as a stream of one event, `refused`, which ends then", "event"),
    ] = None


class PageQuery(Query):
    cursor: Annotated[
        Annotated[str, Field(max_length=200)] | None,
        about("where to go on: `nextCursor` of the page before", "WzE3XQ"),
    ] = None
    limit: Limit = 20


# Part of a name or an event's name; PostgreSQL takes no NUL.
_Search = Annotated[str, Field(max_length=100), AfterValidator(_no_nul)]


class UsersQuery(PageQuery):
    q: Annotated[_Search | None, about("part of a user name or an e-mail address", "ada")] = None
    status: Annotated[
        Literal["active", "flagged", "banned"] | None, about("only accounts of this status", "flagged")
    ] = None


class AuditQuery(PageQuery):
    event: Annotated[_Search | None, about("kind of event, dotted lower case", "user.banned")] = None
    user_id: Annotated[UUID | None, about("the actor or the target", EXAMPLE_USER_ID)] = None
    since: Annotated[Moment | None, about("from this moment on", EXAMPLE_TIME)] = None
    until: Annotated[Moment | None, about("before this moment", EXAMPLE_TIME)] = None
