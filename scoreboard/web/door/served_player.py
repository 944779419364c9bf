"""The player whom a trusted game server acts for, known before limits are counted: they count per player."""

from __future__ import annotations

from uuid import UUID

from flask import g, request
from werkzeug.exceptions import HTTPException

from scoreboard.domain.errors import ScoreboardError
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.intake import Player
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import AnyCall

# Longer than any name or id.
_FIELD_MAX = 400


def body_field(name: str) -> str:
    """A text of the JSON body, empty without one. Never raises: the limiter would take that for a dead Redis."""
    try:
        body = request.get_json(silent=True)
    except (HTTPException, ValueError):
        return ""
    value = body.get(name) if isinstance(body, dict) else None
    return value[:_FIELD_MAX] if isinstance(value, str) else ""


def served_player_id() -> UUID | None:
    """Whom the body names in ``onBehalfOf``, in whichever of the spellings that a UUID has. Never raises."""
    try:
        return UUID(body_field("onBehalfOf"))
    except ValueError:
        return None


def served_player() -> Player | None:
    """The account of that player, looked up once in a request; None where it can't be. Never raises."""
    if "served_player" not in g:
        g.served_player = _look_up()
    player: Player | None = g.served_player
    return player


def _look_up() -> Player | None:
    player_id = served_player_id()
    try:
        return None if player_id is None else current_components().callers.find_player(player_id)
    except (ScoreboardError, *POSTGRES_UNAVAILABLE):
        # The view asks again, and says what is wrong.
        return None


def find_player(call: AnyCall, player_id: UUID) -> Player | None:
    """The account of this id, without a second question about the one that the limits have asked for.

    Raises what ``CallerLookup.find_player`` raises.
    """
    known = call.served_player
    return known if known is not None and known.id == player_id else current_components().callers.find_player(player_id)
