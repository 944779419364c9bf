"""/v1/leaderboard: the board and slices of it."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response, request

from scoreboard.domain import errors
from scoreboard.domain.standings import Board, iso
from scoreboard.web.api import requests, responses
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.callers import current_caller
from scoreboard.web.door.operation import Access, Operation, answer

blueprint = Blueprint("leaderboard", __name__, url_prefix="/v1/leaderboard")

# A poller sees a change within a second; a crowd of pollers costs one read a second behind a cache.
_MAX_AGE_S = 1


@blueprint.get("")
@Operation(
    "The board",
    access=Access.BOARD,
    query=requests.BoardQuery,
    answer=responses.BoardInfo,
    limits="read",
    has_etag=True,
)
def show_board(query: requests.BoardQuery) -> Response:
    return _board_answer(current_components().board.read(offset=query.offset, limit=query.limit))


@blueprint.get("/top10")
@Operation(
    "The first ten",
    access=Access.BOARD,
    query=requests.NoQuery,
    answer=responses.BoardInfo,
    limits="read",
    has_etag=True,
)
def show_top(query: requests.NoQuery) -> Response:
    return _board_answer(current_components().board.read_top())


@blueprint.get("/around/me")
@Operation(
    "The rows around yourself",
    access=Access.USER,
    query=requests.AroundQuery,
    answer=responses.BoardInfo,
    limits="read",
    has_etag=True,
    errors=[errors.NotFound],
)
def show_around_me(query: requests.AroundQuery) -> Response:
    board = current_components().board.read_around(current_caller().user_id, radius=query.radius)
    return _board_answer(board, is_private=True)


@blueprint.get("/around/<uuid:user_id>")
@Operation(
    "The rows around a player",
    access=Access.BOARD,
    query=requests.AroundQuery,
    answer=responses.BoardInfo,
    limits="read",
    has_etag=True,
    errors=[errors.NotFound],
)
def show_around(user_id: UUID, query: requests.AroundQuery) -> Response:
    return _board_answer(current_components().board.read_around(user_id, radius=query.radius))


def _board_answer(board: Board, *, is_private: bool = False) -> Response:
    """With an ETag; a board that has not changed is answered by 304."""
    response = answer(
        {
            "leaderboard": [entry.as_json() for entry in board.entries],
            "totalPlayers": board.total_players,
            "lastUpdated": iso(board.last_updated),
            "version": board.version,
        }
    )
    is_public = current_components().settings.public_leaderboard and not is_private
    response.headers["Cache-Control"] = f"{'public' if is_public else 'private'}, max-age={_MAX_AGE_S}"
    if not is_public:
        response.headers["Vary"] = "Authorization, Cookie"
    response.add_etag(weak=True)
    return response.make_conditional(request)  # type: ignore[return-value]  # returns this very response
