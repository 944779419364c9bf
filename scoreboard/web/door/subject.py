"""Whom limits count a call for: plain values, found out before anything is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from werkzeug.exceptions import HTTPException

from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.errors import ScoreboardError
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.intake import ServedPlayer
from scoreboard.web.api.operation import Access, Operation
from scoreboard.web.door.client_info import address_of
from scoreboard.web.door.preferences import asked_event_id

if TYPE_CHECKING:
    from flask import Request

    from scoreboard.live.stream.hub import Hub
    from scoreboard.services.accounts.callers import CallerLookup
    from scoreboard.web.door.identity import Identity

# Longer than any name or id.
_FIELD_MAX = 400


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose calls are counted. Without ``account`` it is an anonymous caller."""

    #: The caller's address; one IPv6 network counts as one.
    address: str
    account: UUID | None = None
    #: The player an action is for, whoever sends it: the player's own browser or a trusted game server.
    player: UUID | None = None
    is_flagged: bool = False
    #: The user name of a login, as it came.
    login_name: str = ""
    #: Comes back to a stream that has just been theirs, as after a restart of ours.
    is_resuming: bool = False
    #: The account of a token that has just expired.
    expired_account: str | None = None


@dataclass(frozen=True, slots=True)
class Subjects:
    """Finds out whose call a request is. Nothing here raises: what is wrong, the view says."""

    callers: CallerLookup
    hub: Hub

    def find(self, operation: Operation, identity: Identity, http: Request) -> tuple[Subject, ServedPlayer | None]:
        """The subject, and the player whom a trusted game server acts for, where that had to be looked up."""
        address = address_of(http.environ)
        caller = identity.caller
        # Somebody counts as an account only where credentials are looked at: not with a new account, for one.
        if caller is None or operation.access is Access.ANYONE:
            return self._anonymous(operation, identity, http, address), None
        player, served = caller.user_id, None
        status = caller.status
        if caller.role is Role.SYSTEM and operation.limits in ("complete", "request"):
            # What names no player is refused, and counts as the server's own.
            player = served_player_id(http) or player
            status = Status.ACTIVE
            if operation.limits == "complete" and (served := self._player(http)) is not None:
                status = served.status
        subject = Subject(
            address,
            account=caller.user_id,
            player=player,
            is_flagged=status is Status.FLAGGED,
            is_resuming=self._is_resuming(operation, http),
        )
        return subject, served

    def _anonymous(self, operation: Operation, identity: Identity, http: Request, address: str) -> Subject:
        return Subject(
            address,
            login_name=body_field(http, "username") if operation.limits == "login" else "",
            is_resuming=self._is_resuming(operation, http),
            expired_account=identity.expired_subject,
        )

    def _is_resuming(self, operation: Operation, http: Request) -> bool:
        if operation.limits != "stream":
            return False
        last_event_id = asked_event_id(http)
        return last_event_id is not None and self.hub.has_given(last_event_id)

    def _player(self, http: Request) -> ServedPlayer | None:
        player_id = served_player_id(http)
        try:
            return None if player_id is None else self.callers.find_player(player_id)
        except (ScoreboardError, *POSTGRES_UNAVAILABLE):
            # The view asks again, and says what is wrong.
            return None


def body_field(http: Request, name: str) -> str:
    """A text of the JSON body, empty without one."""
    try:
        body = http.get_json(silent=True)
    except (HTTPException, ValueError):
        return ""
    value = body.get(name) if isinstance(body, dict) else None
    return value[:_FIELD_MAX] if isinstance(value, str) else ""


def served_player_id(http: Request) -> UUID | None:
    """Whom the body names in ``onBehalfOf``, in whichever of the spellings that a UUID has."""
    try:
        return UUID(body_field(http, "onBehalfOf"))
    except ValueError:
        return None
