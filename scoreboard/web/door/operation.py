"""An API operation: what it takes, answers and refuses, declared once on its view.

The declaration checks the caller and validates body and query before the view
runs, names the limits, and is what the OpenAPI description is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum
from functools import wraps
from typing import Any, TypeVar

import orjson
from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from scoreboard.domain.accounts import Role
from scoreboard.domain.errors import InsufficientPermissions, ScoreboardError, ServiceUnavailable, ValidationFailed
from scoreboard.services.actions.intake import CallerChanged
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.callers import confirm_caller, current_caller, optional_caller

V = TypeVar("V", bound=Callable[..., Any])
# Errors named in one refusal; a body full of unknown fields needs no longer answer.
_FIELDS_MAX = 20


class Access(Enum):
    """Who may call."""

    ANYONE = "anyone; credentials are not looked at"
    BOARD = "anyone, or signed-in callers only when PUBLIC_LEADERBOARD is false"
    PUBLIC = "anyone, but a bad credential is refused"
    USER = "signed-in callers"
    ADMIN = "admins"


@dataclass(frozen=True)
class Operation:
    """The declaration, and the decorator that puts it on its view.

    The view gets ``body`` and ``query`` as validated models where declared.
    """

    summary: str
    _: KW_ONLY
    access: Access
    answer: type[BaseModel] | None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    limits: str | None = None
    errors: Sequence[type[ScoreboardError]] = ()
    # Other successful answers by status.
    also: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    # The view's own words.
    description: str = ""
    is_unlimited: bool = False
    # The body may be left out; its fields have other ways in.
    is_body_optional: bool = False
    # Answers 304 to a matching If-None-Match.
    has_etag: bool = False
    # The write rechecks session, role and status, so a cached caller is enough.
    confirms_caller: bool = False
    # Headers that it looks at, beside those that follow from the rest of this declaration.
    headers: Sequence[str] = ()
    # A change that may be sent again under the same Idempotency-Key.
    takes_idempotency_key: bool = False
    # Of the successful answer.
    media_type: str = "application/json"

    def __call__(self, view: V) -> V:
        @wraps(view)
        def checked(**arguments: Any) -> Any:
            try:
                _check_access(self.access)
                if self.query is not None:
                    arguments["query"] = parse_query(self.query)
                if self.body is not None:
                    arguments["body"] = parse_body(self.body, is_optional=self.is_body_optional)
            except (ScoreboardError, HTTPException):
                # A caller whose session has ended learns that first, and nothing else.
                confirm_caller()
                raise
            return _for_the_true_caller(view, arguments)

        declared = replace(self, description=(view.__doc__ or "").strip())
        checked.operation = declared  # type: ignore[attr-defined]  # read by current_operation and openapi
        return checked  # type: ignore[return-value]  # same call as the view, minus what is filled in


def _for_the_true_caller(view: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """The view's answer; the view runs once more if its cached caller turns out to be out of date."""
    try:
        return view(**arguments)
    except CallerChanged:
        confirm_caller()
    except (ScoreboardError, HTTPException):
        if not confirm_caller():
            raise
    try:
        return view(**arguments)
    except CallerChanged:
        # Twice within a moment: somebody is at work on this account.
        raise ServiceUnavailable from None


def _check_access(access: Access) -> None:
    if access is Access.ANYONE:
        return
    if access is Access.PUBLIC or (access is Access.BOARD and current_components().settings.public_leaderboard):
        optional_caller()
        return
    caller = current_caller()
    if access is Access.ADMIN and caller.role is not Role.ADMIN:
        raise InsufficientPermissions


def parse_body(model: type[BaseModel], *, is_optional: bool = False) -> BaseModel:
    """The validated JSON body. Raises ValidationFailed, UnsupportedMediaType, RequestEntityTooLarge."""
    raw = _read_body()
    if not raw and is_optional:
        return model.model_validate({})
    if not request.is_json:
        raise UnsupportedMediaType
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValidationFailed(message=f"The body is not JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict):
        raise ValidationFailed(message="The body must be a JSON object.")
    return _validated(model, value)


def _read_body() -> bytes:
    length, limit = request.content_length, request.max_content_length
    # Of a stated length, and not read yet by a limit that looks at a field: as it came in, at half the cost.
    if length is not None and limit is not None and length <= limit and "stream" not in vars(request):
        raw: bytes = request.environ["wsgi.input"].read(length)
        return raw
    return request.get_data(cache=True)


def parse_query(model: type[BaseModel]) -> BaseModel:
    """The validated query string. Raises ValidationFailed, also for a name given twice.

    A model that ignores unknown names ignores repetitions too.
    """
    if model.model_config.get("extra") == "ignore":
        return _validated(model, request.args.to_dict())
    repeated = {name: "is given more than once" for name, values in request.args.lists() if len(values) > 1}
    if repeated:
        raise ValidationFailed(repeated)
    return _validated(model, request.args.to_dict())


def _validated(model: type[BaseModel], value: object) -> BaseModel:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:_FIELDS_MAX]
        fields = {".".join(str(part) for part in item["loc"])[:100]: _plain(item["msg"]) for item in found}
        raise ValidationFailed(fields) from None


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "is not a known field")


def answer(data: Mapping[str, object], status: int = 200) -> Response:
    """A successful answer; private ones are not to be kept by any cache."""
    body = orjson.dumps({"success": True, "data": data})
    return Response(body, status, {"Cache-Control": "no-store"}, content_type="application/json")
