"""Body and query of a request as the models that an operation declares."""

from __future__ import annotations

from io import BytesIO
from typing import TypeVar

import orjson
from flask import Request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from scoreboard.domain.errors import ValidationFailed
from scoreboard.web.api.invalid import fields_of

M = TypeVar("M", bound=BaseModel)


def parse_body(model: type[BaseModel], http: Request, is_optional: bool) -> BaseModel:
    """The validated JSON body. Raises ValidationFailed, UnsupportedMediaType, RequestEntityTooLarge."""
    raw = read_body(http)
    if not raw and is_optional:
        return model.model_validate({})
    if http.environ.get("CONTENT_TYPE") != "application/json" and not http.is_json:
        raise UnsupportedMediaType
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValidationFailed(message=f"The body is not JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict):
        raise ValidationFailed(message="The body must be a JSON object.")
    return validated(model, value)


def read_body(http: Request) -> bytes:
    """The body as it came, as often as it is read. Raises RequestEntityTooLarge."""
    environ, limit = http.environ, http.max_content_length
    length = environ.get("CONTENT_LENGTH", "")
    # Of a stated length, and not read yet by a limit that looks at a field: as it came in, at half the cost.
    is_whole = length.isdecimal() and "HTTP_TRANSFER_ENCODING" not in environ and "stream" not in vars(http)
    if is_whole and limit is not None and int(length) <= limit:
        raw: bytes = environ["wsgi.input"].read(int(length))
        # A view that reads its body itself is called again when its caller has changed.
        environ["wsgi.input"] = BytesIO(raw)
        return raw
    return http.get_data(cache=True)


def parse_query(model: type[BaseModel], http: Request) -> BaseModel:
    """The validated query string. Raises ValidationFailed, also for a name given twice.

    A model that ignores unknown names ignores repetitions too.
    """
    if model.model_config.get("extra") == "ignore":
        return validated(model, http.args.to_dict())
    repeated = {name: "is given more than once" for name, values in http.args.lists() if len(values) > 1}
    if repeated:
        raise ValidationFailed(repeated)
    return validated(model, http.args.to_dict())


def validated(model: type[M], value: object) -> M:
    """The value as this model. Raises ValidationFailed, which names each field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValidationFailed(fields_of(error)) from None
