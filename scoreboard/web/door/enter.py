"""The way into an operation, from the request to the view's answer: docs/request.md tells it as a story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flask import Response
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException

from config import Settings
from scoreboard.domain.accounts import Role
from scoreboard.domain.errors import InsufficientPermissions, ScoreboardError, ServiceUnavailable
from scoreboard.services.actions.intake import CallerChanged
from scoreboard.web.api.operation import Access, Operation
from scoreboard.web.door.call import AnyCall, Call
from scoreboard.web.door.callers import Callers
from scoreboard.web.door.identity import Identity
from scoreboard.web.door.parsing import parse_body, parse_query
from scoreboard.web.door.rate_limits import Limits
from scoreboard.web.door.record import RecordedRequest
from scoreboard.web.door.subject import Subjects

View = Callable[[AnyCall], Response]
_ROLES = {Access.ADMIN: Role.ADMIN, Access.SYSTEM: Role.SYSTEM}


@dataclass(frozen=True, slots=True)
class Door:
    """What ``enter`` works with."""

    settings: Settings
    callers: Callers
    subjects: Subjects
    limits: Limits


def enter(door: Door, operation: Operation, view: View, http: RecordedRequest) -> Response:
    """Answer a request to an operation.

    Raises the refusals that ``operation`` leads to, RateLimitExceeded, and what the view raises. ``http.record`` tells
    who calls and what was counted, also afterwards.
    """
    record = http.record
    # 1. Who calls. A bad credential is refused in step 3, where the operation looks at credentials.
    record.identity = door.callers.identify(operation, http)
    # 2. Limits count each call, also one that is refused further down.
    _count(door, operation, http)
    try:
        # 3. May this caller call?
        _check_access(door, operation.access, record.identity)
        # 4. Query and body become the operation's models.
        query = None if operation.query is None else parse_query(operation.query, http)
        body = _body(operation, http)
    except (ScoreboardError, HTTPException):
        # A caller whose session has ended learns that first, and nothing else.
        _confirm(door, operation, http)
        raise
    # 5. The view; once more if its caller turns out to have changed.
    try:
        return view(_call(http, query, body))
    except CallerChanged:
        _confirm(door, operation, http)
    except (ScoreboardError, HTTPException):
        if not _confirm(door, operation, http):
            raise
    try:
        return view(_call(http, query, body))
    except CallerChanged:
        # Twice within a moment: somebody is at work on this account.
        raise ServiceUnavailable from None


def _count(door: Door, operation: Operation, http: RecordedRequest) -> None:
    """Raises RateLimitExceeded."""
    record = http.record
    record.subject, record.served_player = door.subjects.find(operation, record.identity, http)
    record.counting = door.limits.count_call(operation, record.subject)
    record.counting.check()


def _check_access(door: Door, access: Access, identity: Identity) -> None:
    if access is Access.ANYONE:
        return
    if access is Access.PUBLIC or (access is Access.BOARD and door.settings.public_leaderboard):
        identity.check()
        return
    caller = identity.required()
    if access in _ROLES and caller.role is not _ROLES[access]:
        raise InsufficientPermissions


def _body(operation: Operation, http: RecordedRequest) -> BaseModel | None:
    if operation.body_max_bytes is not None:
        http.max_content_length = operation.body_max_bytes
    if operation.body is None or operation.reads_body_itself:
        return None
    return parse_body(operation.body, http, operation.is_body_optional)


def _confirm(door: Door, operation: Operation, http: RecordedRequest) -> bool:
    """Ask who a caller is who has only been remembered so far; whether the account is another than it was thought.

    Then the call is counted once more. Raises InvalidToken, AccountBanned, and RateLimitExceeded when the limits of
    what the account has become say so.
    """
    record = http.record
    remembered = record.identity
    if not remembered.is_cached or remembered.caller is None:
        return False
    record.identity = replace(remembered, is_cached=False)
    caller = door.callers.identify_again(remembered.caller)
    record.identity = replace(record.identity, caller=caller)
    if (caller.role, caller.status) == (remembered.caller.role, remembered.caller.status):
        return False
    _count(door, operation, http)
    return True


def _call(http: RecordedRequest, query: BaseModel | None, body: BaseModel | None) -> AnyCall:
    record = http.record
    assert record.subject is not None
    return Call(
        record.identity,
        http.view_args or {},
        body,
        query,
        record.request_id,
        http,
        record.subject,
        record.served_player,
    )
