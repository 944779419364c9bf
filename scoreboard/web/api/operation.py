"""An API operation: what it takes, answers and refuses, declared once beside its view.

Data only: ``enter`` acts by it, and the OpenAPI description is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel

from scoreboard.domain.errors import ScoreboardError


class Access(Enum):
    """Who may call."""

    ANYONE = "anyone; credentials are not looked at"
    BOARD = "anyone, or signed-in callers only when PUBLIC_LEADERBOARD is false"
    PUBLIC = "anyone, but a bad credential is refused"
    USER = "signed-in callers"
    ADMIN = "admins"
    SYSTEM = "game servers: accounts of the role system"


@dataclass(frozen=True)
class Operation:
    """What ``enter`` does before the view runs, and what the description of the API says."""

    summary: str
    _: KW_ONLY
    access: Access
    answer: type[Any] | None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    limits: str | None = None
    errors: Sequence[type[ScoreboardError]] = ()
    # Other successful answers by status.
    also: Mapping[int, type[Any]] = field(default_factory=dict)
    # The view's own words.
    description: str = ""
    is_unlimited: bool = False
    # The body may be left out; its fields have other ways in.
    is_body_optional: bool = False
    # Its parts are refused one by one, so ``body`` only describes it, and the view reads it.
    reads_body_itself: bool = False
    body_types: Sequence[str] = ("application/json",)
    # None is the application's own limit.
    body_max_bytes: int | None = None
    # Answers 304 to a matching If-None-Match.
    has_etag: bool = False
    # The write rechecks session, role and status, so a cached caller is enough.
    confirms_caller: bool = False
    # Headers that it looks at, beside those that follow from the rest of this declaration.
    headers: Sequence[str] = ()
    # A change that may be sent again under the same Idempotency-Key.
    takes_idempotency_key: bool = False
    # Of the successful answer.
    media_type: str = "application/json"


V = TypeVar("V", bound=Callable[..., object])


def serves(operation: Operation) -> Callable[[V], V]:
    """Declare what a view serves: the view is called with a ``Call`` when everything about the request is in order."""

    def declare(view: V) -> V:
        view.operation = replace(operation, description=(view.__doc__ or "").strip())  # type: ignore[attr-defined]
        return view

    return declare


def operation_of(view: Callable[..., object] | None) -> Operation | None:
    """What this view was declared as; None for pages and files."""
    return getattr(view, "operation", None)
