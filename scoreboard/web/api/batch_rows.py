"""The rows of a batch, from a JSON body or from JSON Lines; each is read by itself, and refused by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

import orjson
from pydantic import ValidationError

from scoreboard.domain.errors import ScoreboardError, ValidationFailed
from scoreboard.services.actions.batch import BATCH_MAX, EXTERNAL_ID_MAX, FinishedAction, Row
from scoreboard.web.api import requests
from scoreboard.web.api.invalid import FIELDS_MAX, fields_of

JSON_LINES = "application/x-ndjson"
# What stands on a line; blank lines, as at the end, are none.
_LINE = re.compile(rb"\S[^\n]*")


def rows_of_json(raw: bytes) -> list[object]:
    """The values in ``actions``, whatever they are. Raises ValidationFailed for a body that is no batch."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValidationFailed(message=f"The body is not JSON: {str(error)[:100]}") from None
    if not isinstance(body, dict):
        raise ValidationFailed(message="The body must be a JSON object.")
    if unknown := [name for name in islice(body, FIELDS_MAX + 1) if name != "actions"]:
        raise ValidationFailed({name[:100]: "is not a known field" for name in unknown[:FIELDS_MAX]})
    if not isinstance(rows := body.get("actions"), list):
        raise ValidationFailed({"actions": "must be a list" if "actions" in body else "Field required"})
    _check_number(rows)
    return rows


def rows_of_lines(raw: bytes) -> list[object]:
    """The value of each line that isn't blank; of a line that is no JSON the refusal. Raises ValidationFailed."""
    lines = [found[0] for found in islice(_LINE.finditer(raw), BATCH_MAX + 1)]
    _check_number(lines)
    return [_line(line) for line in lines]


def _line(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return ValidationFailed(message=f"The line is not JSON: {str(error)[:100]}")


def _check_number(rows: Sequence[object]) -> None:
    if len(rows) > BATCH_MAX:
        raise ValidationFailed({"actions": f"has more than {BATCH_MAX} rows"})


def read_row(value: object) -> Row:
    """A row, or why it is none."""
    if isinstance(value, ScoreboardError):
        return value
    if not isinstance(value, dict):
        return ValidationFailed(message="The row must be a JSON object.")
    try:
        row = requests.FinishedAction.model_validate(value)
    except ValidationError as error:
        return ValidationFailed(fields_of(error))
    return FinishedAction(
        row.external_id,
        row.user_id,
        row.action_type,
        row.metadata,
        row.started_at,
        row.completed_at,
        row.points,
        row.data,
    )


def external_ids(values: Sequence[object]) -> list[str | None]:
    """Under which id each row came, as far as that can be said."""
    return [_external_id(value) for value in values]


def _external_id(value: object) -> str | None:
    given = value.get("externalId") if isinstance(value, dict) else None
    return given if isinstance(given, str) and len(given) <= EXTERNAL_ID_MAX else None
