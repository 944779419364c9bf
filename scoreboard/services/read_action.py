"""Where an action stands."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from scoreboard.domain.accounts import Role
from scoreboard.domain.actions import State
from scoreboard.domain.errors import NotFound
from scoreboard.services.read_board import BoardReader
from scoreboard.store import actions
from scoreboard.store.actions import Action
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller


def read_action(database: Database, board: BoardReader, *, caller: Caller, action_id: UUID, now: float) -> Action:
    """An action for its owner, the system account that acted for its owner, or an admin. Raises NotFound.

    ``now``: Unix seconds by the database's clock, which judges whether an action has expired.
    """
    with database.read() as connection:
        action = actions.get_action(connection, action_id)
    if action is None or not _may_see(caller, action):
        raise NotFound("There is no such action.")
    if action.state is State.ISSUED and action.expires_at.timestamp() <= now:
        return replace(action, state=State.EXPIRED)
    return with_rank(board, action)


def with_rank(board: BoardReader, action: Action) -> Action:
    """Give an applied action whose outcome has not been announced yet the player's present rank."""
    if action.state is not State.APPLIED or action.rank is not None:
        return action
    return replace(action, rank=board.rank_of(action.user_id)[0])


def _may_see(caller: Caller, action: Action) -> bool:
    return caller.role is Role.ADMIN or caller.user_id in (action.user_id, action.issued_by)
