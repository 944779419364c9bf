"""The body of a refusal, the same from a view, the gate before the application, and the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field
from typing_extensions import TypedDict

from scoreboard.wire import fields
from scoreboard.wire.encoding import to_json
from scoreboard.wire.fields import about

# A failure of ours; no answer says more about it.
INTERNAL_ERROR = ("INTERNAL_ERROR", "Something went wrong on our side.")


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


_EXAMPLE = {"code": "NOT_FOUND", "message": "This does not exist, or it is not yours.", "details": {}}


class Error(TypedDict):
    success: Annotated[Literal[False], about("false", False)]
    error: Annotated[ErrorInfo, about("the refusal and its reason", _EXAMPLE)]


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
