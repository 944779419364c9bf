"""Every refusal: its status, code and message, and the body that tells of it.

Views, the admission in front of the application and the server itself refuse alike. docs/api.md explains the same
table, which a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field
from typing_extensions import TypedDict

from scoreboard.domain import errors
from scoreboard.domain.errors import ScoreboardError
from scoreboard.wire import fields
from scoreboard.wire.encoding import to_json
from scoreboard.wire.fields import about

#: The statuses of the use cases' refusals. Code and message stand on each class.
STATUS: dict[type[ScoreboardError], int] = {
    errors.ValidationFailed: 400,
    errors.InvalidActionToken: 400,
    errors.ActionTokenExpired: 400,
    errors.ScoreValidationFailed: 400,
    errors.InvalidCredentials: 401,
    errors.InvalidToken: 401,
    errors.TokenExpired: 401,
    errors.InsufficientPermissions: 403,
    errors.AccountBanned: 403,
    errors.CsrfFailed: 403,
    errors.NotFound: 404,
    errors.ActionAlreadyCompleted: 409,
    errors.UsernameTaken: 409,
    errors.EmailTaken: 409,
    errors.IdempotencyMismatch: 422,
    errors.RateLimitExceeded: 429,
    errors.TooManyOpenActions: 429,
    errors.TooManyStreams: 429,
    errors.ServiceUnavailable: 503,
}
# A failure of ours; no answer says more about it.
INTERNAL_ERROR = (ScoreboardError.code, ScoreboardError.message)
#: What Flask, Werkzeug and the server refuse by themselves: code and message by status.
BY_STATUS = {
    400: (errors.ValidationFailed.code, errors.ValidationFailed.message),
    404: (errors.NotFound.code, "This path does not exist."),
    405: ("METHOD_NOT_ALLOWED", "This path does not take that method."),
    413: ("BODY_TOO_LARGE", "The body is larger than 64 KB."),
    414: (errors.ValidationFailed.code, "The address is too long."),
    415: ("UNSUPPORTED_MEDIA_TYPE", "The body must be JSON, with Content-Type: application/json."),
    429: (errors.RateLimitExceeded.code, errors.RateLimitExceeded.message),
    431: (errors.ValidationFailed.code, "The headers are too many or too long."),
    500: INTERNAL_ERROR,
}
#: All pairs of a status and a code that an answer may have.
STATUSES_AND_CODES = frozenset(
    [
        *((status, kind.code) for kind, status in STATUS.items()),
        *((status, code) for status, (code, _) in BY_STATUS.items()),
    ]
)
CODES = frozenset(code for _, code in STATUSES_AND_CODES)


def refusal_by_status(status: int, *, otherwise: str) -> tuple[str, str]:
    """Code and message of a refusal of the framework; ``otherwise`` is the message of a status that isn't listed."""
    unlisted = INTERNAL_ERROR[0] if status >= HTTPStatus.INTERNAL_SERVER_ERROR else errors.ValidationFailed.code
    return BY_STATUS.get(status, (unlisted, otherwise))


class ErrorInfo(TypedDict):
    code: Annotated[str, Field(description="decide by this")]
    message: fields.Message
    details: Annotated[
        Mapping[str, object],
        about(
            "more about it; of VALIDATION_FAILED in `fields` what is wrong with each",
            {"fields": {"amount": "must not be 0"}},
        ),
    ]


EXAMPLE_ERROR = {"code": "NOT_FOUND", "message": "This does not exist, or it is not yours.", "details": {}}


class Error(TypedDict):
    success: Annotated[Literal[False], about("false", False)]
    error: Annotated[ErrorInfo, about("the refusal and its reason", EXAMPLE_ERROR)]


def refusal(code: str, message: str, details: Mapping[str, object] | None = None) -> Error:
    """The body."""
    return Error(success=False, error=ErrorInfo(code=code, message=message, details=details or {}))


def bare_answer(code: str, message: str) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body where no hook of the application sees the answer; the steady headers come on top."""
    body = to_json(refusal(code, message))
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Request-ID", uuid4().hex),
    ]
    return headers, body
