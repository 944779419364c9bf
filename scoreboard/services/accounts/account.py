"""An account as moderators see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import orjson

from scoreboard.store.users import User
from scoreboard.wire.answers import AdminUser
from scoreboard.wire.encoding import to_json


def show_account(user: User) -> AdminUser:
    return AdminUser(
        id=user.id,
        username=user.username,
        email=user.email,
        role=user.role,
        status=user.status,
        isHidden=user.is_hidden,
        score=user.score,
        totalActions=user.total_actions,
        lastActionAt=user.last_action_at,
        createdAt=user.created_at,
    )


def stored_form(account: AdminUser) -> dict[str, object]:
    """The answer as JSON has it, to be stored."""
    stored: dict[str, object] = orjson.loads(to_json(account))
    return stored


def from_stored(answer: Mapping[str, object]) -> AdminUser:
    """An answer that was stored by this release or another: the fields of today, those unknown then as null."""
    return cast(AdminUser, {name: answer.get(name) for name in AdminUser.__annotations__})
