"""/v1/actions: the catalogue, tokens, completions."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from uuid import UUID

from flask import Blueprint, Response
from typing_extensions import TypedDict

from scoreboard.domain import errors
from scoreboard.domain.actions import ActionType, ComputedPoints, FixedPoints, Points, Proof, Speed, Time, TimeBy
from scoreboard.domain.errors import ValidationFailed
from scoreboard.services.actions.accept import Completion
from scoreboard.services.actions.complete import Completed, CompletionCall
from scoreboard.services.actions.following import NextAnswer, NextState, NextWanted
from scoreboard.services.actions.issue import OpenAction, issue_action
from scoreboard.services.actions.read import read_action
from scoreboard.store.intake import ServedPlayer
from scoreboard.web.api import requests, responses
from scoreboard.web.api.answers import answer
from scoreboard.web.api.errors import refusal_within
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import AnyCall, BareCall, Call
from scoreboard.web.door.parsing import validated
from scoreboard.web.door.rate_limits import NextLimit
from scoreboard.wire.events import as_reason_details


class _Next(TypedDict, total=False):
    next: responses.Next


blueprint = Blueprint("actions", __name__, url_prefix="/v1/actions")


@blueprint.get("/types")
@serves(Operation("The catalogue of action types", access=Access.PUBLIC, answer=responses.ActionTypes, limits="read"))
def list_types(call: BareCall) -> Response:
    shown = [_type_info(action_type) for action_type in current_components().catalogue]
    response = answer(responses.ActionTypes(types=shown))
    response.headers["Cache-Control"] = "public, max-age=60"
    return response


@blueprint.post("/request")
@serves(
    Operation(
        "Ask for an action token",
        access=Access.USER,
        body=requests.ActionRequest,
        answer=responses.IssuedAction,
        limits="request",
        confirms_caller=True,
        errors=[errors.TooManyOpenActions, errors.NotFound],
    )
)
def request_action(call: Call[requests.ActionRequest, None]) -> Response:
    """The token is bound to player, action, type and metadata, and works once."""
    components = current_components()
    issued = issue_action(
        components.intake,
        components.callers.find_player,
        components.catalogue,
        components.tokens,
        caller=call.caller,
        on_behalf_of=call.body.on_behalf_of,
        action_type=call.body.action_type,
        metadata=call.body.metadata,
        ttl_s=components.settings.action_token_ttl_s,
    )
    return answer(_issued_json(issued))


@blueprint.post("/complete")
@serves(
    Operation(
        "Complete an action",
        access=Access.USER,
        body=requests.ActionCompletion,
        answer=responses.Accepted,
        status=202,
        also={200: responses.Outcome},
        limits="complete",
        headers=["Prefer"],
        confirms_caller=True,
        errors=[
            errors.InvalidActionToken,
            errors.ActionTokenExpired,
            errors.ScoreValidationFailed,
            errors.ActionAlreadyCompleted,
            errors.NotFound,
        ],
    )
)
def complete_action(call: Call[requests.ActionCompletion, None]) -> Response:
    """Answers 202 once the action is safely accepted, or 200 with the outcome.

    With `Prefer: wait=N` (at most 10 s) it waits for the outcome. The very same
    body may be sent again at any time: it gets the same answer, with the outcome
    if there is one by now.

    `next` asks for the next action in the same call; the answer's `next` holds what
    `/v1/actions/request` would have answered, or its refusal, which leaves the
    completion as it is. Once that token is used up or has expired, a repeat is told
    its id and status instead.
    """
    body = call.body
    proof = Proof(body.proof.completion_time, body.proof.checksum, body.proof.points, body.proof.data)
    components = current_components()
    completed = components.complete_action.complete(
        CompletionCall(
            completion=Completion(body.action_id, body.action_token, proof),
            caller=call.caller,
            on_behalf_of=body.on_behalf_of,
            find_player=partial(_find_player, call),
            origin=call.origin,
            wait_s=call.wait_s,
            wanted=_wanted(body.next),
            request_limit=NextLimit(components.limits, call.subject),
        )
    )
    response = _completed(call, completed)
    if call.wait_s is not None:
        response.headers["Preference-Applied"] = f"wait={call.wait_s:.0f}"
    return response


def _find_player(call: AnyCall, player_id: UUID) -> ServedPlayer | None:
    """The account of this id, without a second question about the one that the limits have asked for."""
    known = call.served_player
    return known if known is not None and known.id == player_id else current_components().callers.find_player(player_id)


def _wanted(raw: object) -> NextWanted | ValidationFailed | None:
    """What the body asks for next, or what is wrong with that."""
    if raw is None:
        return None
    if not isinstance(raw, dict):
        return ValidationFailed(message="`next` must be a JSON object.")
    try:
        wanted = validated(requests.NextAction, raw)
    except ValidationFailed as error:
        return error
    return NextWanted(wanted.action_type, wanted.metadata)


@blueprint.get("/<uuid:action_id>")
@serves(Operation("Where an action stands", access=Access.USER, answer=responses.ActionInfo, errors=[errors.NotFound]))
def show_action(call: BareCall) -> Response:
    """For its owner, the system account that acted for its owner, and admins. `data` is what came with the proof."""
    components = current_components()
    action_id = call.arguments["action_id"]
    action = read_action(components.database, caller=call.caller, action_id=action_id, now=components.clock())
    return answer(
        responses.ActionInfo(
            actionId=action.id,
            actionType=action.action_type,
            status=action.state,
            reason=action.reason,
            reasonDetails=as_reason_details(action.reason_details),
            issuedAt=action.issued_at,
            acceptedAt=action.accepted_at,
            settledAt=action.settled_at,
            scoreIncrement=action.score_increment,
            previousScore=action.previous_score,
            newScore=action.new_score,
            rank=action.rank,
            data=action.data,
        )
    )


def _completed(call: AnyCall, completed: Completed) -> Response:
    where = status_url(call, completed.action_id)
    following: _Next = {} if completed.next is None else {"next": _next_json(completed.next)}
    if completed.outcome is not None:
        return answer(responses.Outcome(**completed.outcome, statusUrl=where, **following))
    accepted = responses.Accepted(actionId=completed.action_id, status="accepted", statusUrl=where, **following)
    return answer(accepted, 202)


def status_url(call: AnyCall, action_id: UUID) -> str:
    """Path of an action; as url_for says it, which takes a hundred times as long."""
    return f"{call.http.script_root}{blueprint.url_prefix}/{action_id}"


def _next_json(told: NextAnswer) -> responses.IssuedAction | responses.NextState | responses.NextRefused:
    if isinstance(told, OpenAction):
        return _issued_json(told)
    if isinstance(told, NextState):
        return {"actionId": told.action_id, "status": told.state}
    return {"error": refusal_within(told)}


def _issued_json(issued: OpenAction) -> responses.IssuedAction:
    return {
        "actionId": issued.action_id,
        "actionToken": issued.action_token,
        "proofKey": issued.proof_key,
        "issuedAt": issued.issued_at,
        "expiresAt": issued.expires_at,
        "maxPoints": issued.max_points,
    }


def _floats(table: Mapping[str, Fraction]) -> dict[str, float]:
    return {value: float(factor) for value, factor in table.items()}


def _times_by(time: Time) -> dict[str, dict[str, int]] | None:
    return {time.name: dict(time.times_ms)} if isinstance(time, TimeBy) else None


def _speed_info(speed: Speed) -> responses.SpeedInfo:
    return responses.SpeedInfo(
        fullMs=None if isinstance(speed.full_ms, TimeBy) else speed.full_ms,
        fullMsBy=_times_by(speed.full_ms),
        leastMs=None if isinstance(speed.least_ms, TimeBy) else speed.least_ms,
        leastMsBy=_times_by(speed.least_ms),
        least=float(speed.least),
    )


def _points_info(points: Points) -> responses.PointsInfo:
    shown = responses.PointsInfo(kind=points.kind, maximum=points.maximum)
    if isinstance(points, FixedPoints):
        shown["value"] = points.value
    elif isinstance(points, ComputedPoints):
        shown["base"] = float(points.base)
        shown["multiply"] = {name: None if table is None else _floats(table) for name, table in points.multiply.items()}
    return shown


def _type_info(action_type: ActionType) -> responses.ActionTypeInfo:
    return responses.ActionTypeInfo(
        code=action_type.code,
        title=action_type.title,
        points=_points_info(action_type.points),
        minTimeMs=action_type.min_time_ms,
        minTimeMsBy=_times_by(action_type.min_time),
        maxTimeMs=action_type.max_time_ms,
        speed=_speed_info(action_type.speed) if action_type.speed else None,
        metadataSchema=action_type.metadata_schema,
    )
