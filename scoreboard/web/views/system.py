"""/v1/system: for trusted game servers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flask import Blueprint, Response
from werkzeug.exceptions import UnsupportedMediaType

from scoreboard.domain.actions import State
from scoreboard.domain.errors import ScoreboardError, ValidationFailed
from scoreboard.services.actions.complete_batch import Result
from scoreboard.web.api import requests, responses
from scoreboard.web.api.answers import answer
from scoreboard.web.api.batch_rows import JSON_LINES, external_ids, read_row, rows_of_json, rows_of_lines
from scoreboard.web.api.errors import refusal_within
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import BareCall
from scoreboard.web.door.parsing import read_body
from scoreboard.web.server.bodies import LARGER_BODIES
from scoreboard.web.views.actions import status_url

_PATH = "/v1/system/actions"

blueprint = Blueprint("system", __name__)


@blueprint.post(_PATH)
@serves(
    Operation(
        "Send finished actions of many players",
        access=Access.SYSTEM,
        body=requests.Batch,
        body_types=("application/json", JSON_LINES),
        body_max_bytes=LARGER_BODIES[_PATH],
        reads_body_itself=True,
        answer=responses.BatchResult,
        status=202,
        also={200: responses.BatchResult},
        limits="batch",
        headers=["Prefer"],
        confirms_caller=True,
    )
)
def send_actions(call: BareCall) -> Response:
    """Up to 200 actions that the game server has seen from begin to end; each row is taken or refused by itself.

    Answers 200 when all rows are settled or refused, else 202; with `Prefer: wait=N` (at most 10 s) it waits until
    they are. The same `externalId` with the same contents gets the first answer for 7 days, with the outcome if there
    is one by now. The body is one JSON object, or JSON Lines with a row on each line.
    """
    components = current_components()
    values = _values(call)
    results = components.batch_completion.complete(
        [read_row(value) for value in values],
        caller=call.caller,
        origin=call.origin,
        count=partial(components.late_limits.count, call.caller.user_id),
        wait_s=call.wait_s,
    )
    items = [
        _item(call, index, external_id, result)
        for index, (external_id, result) in enumerate(zip(external_ids(values), results, strict=True))
    ]
    is_open = any(item.get("status") == State.ACCEPTED for item in items)
    response = answer(responses.BatchResult(items=items), 202 if is_open else 200)
    if call.wait_s is not None:
        response.headers["Preference-Applied"] = f"wait={call.wait_s:.0f}"
    return response


def _values(call: BareCall) -> Sequence[object]:
    """The rows, as yet unchecked. Raises ValidationFailed, UnsupportedMediaType, RequestEntityTooLarge."""
    if call.http.headers.get("Content-Encoding", "identity").lower() != "identity":
        # Its bytes would pass for lines that are no JSON, in a success.
        raise ValidationFailed(message="The body must not be compressed.")
    raw = read_body(call.http)
    if call.http.mimetype == JSON_LINES:
        return rows_of_lines(raw)
    if not call.http.is_json:
        raise UnsupportedMediaType
    return rows_of_json(raw)


def _item(
    call: BareCall, index: int, external_id: str | None, result: Result
) -> responses.BatchOutcome | responses.BatchRefusal:
    if isinstance(result, ScoreboardError):
        return responses.BatchRefusal(index=index, externalId=external_id, error=refusal_within(result))
    # A row without a readable id is refused.
    assert external_id is not None
    url = status_url(call, result["actionId"])
    return responses.BatchOutcome(index=index, externalId=external_id, **result, statusUrl=url)
