"""/v1/users: a player's figures and history."""

from __future__ import annotations

from flask import Blueprint, Response

from scoreboard.domain import errors
from scoreboard.services.accounts.read_player import PlayerScore, read_history, read_score
from scoreboard.web.api import requests, responses
from scoreboard.web.api.answers import answer
from scoreboard.web.api.cursors import decode_cursor, encode_cursor
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import Call

blueprint = Blueprint("players", __name__, url_prefix="/v1/users")


@blueprint.get("/me/score")
@serves(Operation("Your score", access=Access.USER, query=requests.NoQuery, answer=responses.ScoreInfo, limits="score"))
def show_own_score(call: Call[None, requests.NoQuery]) -> Response:
    components = current_components()
    return _score_answer(read_score(components.database, components.board, call.caller.user_id, is_own=True))


@blueprint.get("/<uuid:user_id>/score")
@serves(
    Operation(
        "A player's score",
        access=Access.BOARD,
        query=requests.NoQuery,
        answer=responses.ScoreInfo,
        limits="read",
        errors=[errors.NotFound],
    )
)
def show_score(call: Call[None, requests.NoQuery]) -> Response:
    components = current_components()
    caller = call.optional_caller
    user_id = call.arguments["user_id"]
    is_own = caller is not None and caller.user_id == user_id
    return _score_answer(read_score(components.database, components.board, user_id, is_own=is_own))


@blueprint.get("/me/history")
@serves(Operation("Your score changes", access=Access.USER, query=requests.PageQuery, answer=responses.HistoryPage))
def show_own_history(call: Call[None, requests.PageQuery]) -> Response:
    """Newest first."""
    cursor = decode_cursor(call.query.cursor, [int])
    before = int(cursor[0]) if cursor else None
    found = read_history(
        current_components().database, call.caller.user_id, before_seq=before, limit=call.query.limit + 1
    )
    page = found[: call.query.limit]
    items = [
        responses.HistoryItem(
            actionId=item.action_id,
            actionType=item.action_type,
            previousScore=item.previous_score,
            increment=item.increment,
            newScore=item.new_score,
            reason=item.reason,
            at=item.at,
        )
        for item in page
    ]
    next_cursor = encode_cursor(page[-1].seq) if len(found) > call.query.limit else None
    return answer(responses.HistoryPage(items=items, nextCursor=next_cursor))


def _score_answer(found: PlayerScore) -> Response:
    user = found.user
    return answer(
        responses.ScoreInfo(
            userId=user.id,
            username=user.username,
            score=user.score,
            rank=found.rank,
            percentile=found.percentile,
            totalActions=user.total_actions,
            lastUpdated=user.score_reached_at,
        )
    )
