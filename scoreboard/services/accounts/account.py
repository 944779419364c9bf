"""An account as moderators see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scoreboard.domain.standings import iso
from scoreboard.store.users import User


@dataclass(frozen=True, slots=True)
class Account:
    """What an admin is answered, as JSON has it: so an answer that was kept is told again as it was."""

    id: str
    username: str
    email: str | None
    role: str
    status: str
    isHidden: bool  # noqa: N815 - names of the answer's fields
    score: int
    totalActions: int  # noqa: N815
    lastActionAt: str | None  # noqa: N815
    createdAt: str  # noqa: N815

    @classmethod
    def of(cls, user: User) -> Account:
        return cls(
            id=str(user.id),
            username=user.username,
            email=user.email,
            role=user.role.value,
            status=user.status.value,
            isHidden=user.is_hidden,
            score=user.score,
            totalActions=user.total_actions,
            lastActionAt=iso(user.last_action_at) if user.last_action_at else None,
            createdAt=iso(user.created_at),
        )

    @classmethod
    def kept(cls, answer: Mapping[str, Any]) -> Account:
        """As it was answered before, by this release or another."""
        fields: dict[str, Any] = {name: answer.get(name) for name in cls.__slots__}
        return cls(**fields)

    def as_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}
