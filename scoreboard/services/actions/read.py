"""Where an action stands."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from scoreboard.domain.accounts import Role
from scoreboard.domain.actions import SETTLED, State
from scoreboard.domain.errors import NotFound
from scoreboard.store import actions
from scoreboard.store.actions import Action
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller


def read_action(database: Database, *, caller: Caller, action_id: UUID, now: float) -> Action:
    """An action for its owner, the system account that acted for its owner, or an admin. Raises NotFound.

    ``now``: Unix seconds by the database's clock, which judges whether an action has expired. Between an outcome's
    commit and its ranks, some milliseconds or a few time-outs of Redis, the action is still an accepted one.
    """
    with database.read() as connection:
        action = actions.get_action(connection, action_id)
    if action is None or not _may_see(caller, action):
        raise NotFound("There is no such action.")
    return as_shown(action, now)


def as_shown(action: Action, now: float) -> Action:
    """The action as its owner may see it at this moment."""
    if action.state is State.ISSUED and action.expires_at.timestamp() <= now:
        return replace(action, state=State.EXPIRED)
    return action if action.is_told or action.state not in SETTLED else _untold(action)


def _untold(action: Action) -> Action:
    """As it was before it was settled."""
    return replace(
        action,
        state=State.ACCEPTED,
        settled_at=None,
        score_increment=None,
        previous_score=None,
        new_score=None,
        standing_version=None,
        previous_rank=None,
        rank=None,
    )


def _may_see(caller: Caller, action: Action) -> bool:
    return caller.role is Role.ADMIN or caller.user_id in (action.user_id, action.issued_by)
