"""/v1/leaderboard: the board and slices of it."""

from __future__ import annotations

from flask import Blueprint, Response

from scoreboard.domain import errors
from scoreboard.domain.standings import Board
from scoreboard.web.api import requests, responses
from scoreboard.web.api.answers import answer
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import AnyCall, Call
from scoreboard.wire.events import board_row

blueprint = Blueprint("leaderboard", __name__, url_prefix="/v1/leaderboard")

# A poller sees a change within a second; a crowd of pollers costs one read a second behind a cache.
_MAX_AGE_S = 1


@blueprint.get("")
@serves(
    Operation(
        "The board",
        access=Access.BOARD,
        query=requests.BoardQuery,
        answer=responses.BoardInfo,
        limits="read",
        has_etag=True,
    )
)
def show_board(call: Call[None, requests.BoardQuery]) -> Response:
    return _board_answer(call, current_components().board.read(offset=call.query.offset, limit=call.query.limit))


@blueprint.get("/top10")
@serves(
    Operation(
        "The first ten",
        access=Access.BOARD,
        query=requests.NoQuery,
        answer=responses.BoardInfo,
        limits="read",
        has_etag=True,
    )
)
def show_top(call: Call[None, requests.NoQuery]) -> Response:
    return _board_answer(call, current_components().board.read_top())


@blueprint.get("/around/me")
@serves(
    Operation(
        "The rows around yourself",
        access=Access.USER,
        query=requests.AroundQuery,
        answer=responses.BoardInfo,
        limits="read",
        has_etag=True,
        errors=[errors.NotFound],
    )
)
def show_around_me(call: Call[None, requests.AroundQuery]) -> Response:
    board = current_components().board.read_around(call.caller.user_id, radius=call.query.radius)
    return _board_answer(call, board, is_private=True)


@blueprint.get("/around/<uuid:user_id>")
@serves(
    Operation(
        "The rows around a player",
        access=Access.BOARD,
        query=requests.AroundQuery,
        answer=responses.BoardInfo,
        limits="read",
        has_etag=True,
        errors=[errors.NotFound],
    )
)
def show_around(call: Call[None, requests.AroundQuery]) -> Response:
    return _board_answer(
        call, current_components().board.read_around(call.arguments["user_id"], radius=call.query.radius)
    )


def _board_answer(call: AnyCall, board: Board, *, is_private: bool = False) -> Response:
    """With an ETag; a board that has not changed is answered by 304."""
    response = answer(
        responses.BoardInfo(
            leaderboard=[board_row(entry) for entry in board.entries],
            totalPlayers=board.total_players,
            lastUpdated=board.last_updated,
            version=board.version,
        )
    )
    is_public = current_components().settings.public_leaderboard and not is_private
    response.headers["Cache-Control"] = f"{'public' if is_public else 'private'}, max-age={_MAX_AGE_S}"
    if not is_public:
        response.headers["Vary"] = "Authorization, Cookie"
    response.add_etag(weak=True)
    return response.make_conditional(call.http)  # type: ignore[return-value]  # returns this very response
