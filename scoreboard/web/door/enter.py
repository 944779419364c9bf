"""The way into an operation: check the caller, parse, call the view, and repeat when the caller has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar
from uuid import UUID

from flask import Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from scoreboard.domain.accounts import Role
from scoreboard.domain.errors import InsufficientPermissions, ScoreboardError, ServiceUnavailable
from scoreboard.services.actions.intake import CallerChanged
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import AnyCall, Call
from scoreboard.web.door.callers import identify_again
from scoreboard.web.door.operation import Access, Operation
from scoreboard.web.door.parsing import parse_body, parse_query

C = TypeVar("C", bound=AnyCall, contravariant=True)
View = Callable[[C], Response]
_ROLES = {Access.ADMIN: Role.ADMIN, Access.SYSTEM: Role.SYSTEM}


def serves(operation: Operation) -> Callable[[Callable[[C], Response]], Callable[..., Response]]:
    """Declare what a view serves; the view is called with a ``Call`` once everything about the request is in order."""

    def declare(view: Callable[[C], Response]) -> Callable[..., Response]:
        declared = replace(operation, description=(view.__doc__ or "").strip())

        @wraps(view)
        def entered(**arguments: UUID) -> Response:
            return enter(view, declared, arguments)

        entered.operation = declared  # type: ignore[attr-defined]  # read by operation_of
        return entered

    return declare


def enter(view: Callable[[Any], Response], operation: Operation, arguments: dict[str, UUID]) -> Response:
    """Answer a request whose caller is identified and whose limits are counted.

    Raises what the view raises, and the refusals that ``operation`` leads to.
    """
    try:
        call = _call(arguments)
        _check_access(operation.access, call)
        call = _parsed(operation, call)
    except (ScoreboardError, HTTPException):
        # A caller whose session has ended learns that first, and nothing else.
        _confirm_caller()
        raise
    return _for_the_true_caller(view, call)


def _call(arguments: dict[str, UUID]) -> AnyCall:
    return Call(
        identity=g.identity,
        arguments=arguments,
        body=None,
        query=None,
        request_id=g.request_id,
        http=request._get_current_object(),  # type: ignore[attr-defined]  # the proxy's own method
        served_player=g.get("served_player"),
    )


def _parsed(operation: Operation, call: AnyCall) -> AnyCall:
    query = None if operation.query is None else parse_query(operation.query)
    if operation.body_max_bytes is not None:
        call.http.max_content_length = operation.body_max_bytes
    if operation.body is None or operation.reads_body_itself:
        return replace(call, query=query)
    body = parse_body(operation.body, is_optional=operation.is_body_optional)
    return replace(call, query=query, body=body)


def _for_the_true_caller(view: Callable[[Any], Response], call: AnyCall) -> Response:
    """The view's answer; the view runs once more if its cached caller turns out to be out of date."""
    try:
        return view(call)
    except CallerChanged:
        _confirm_caller()
    except (ScoreboardError, HTTPException):
        if not _confirm_caller():
            raise
    try:
        return view(replace(call, identity=g.identity))
    except CallerChanged:
        # Twice within a moment: somebody is at work on this account.
        raise ServiceUnavailable from None


def _confirm_caller() -> bool:
    """Ask who a caller is who has only been remembered so far; whether it is another one than was thought.

    Raises InvalidToken, AccountBanned; and flask-limiter's RateLimitExceeded when the limits
    of what the account has become, counted once more, say so.
    """
    remembered = g.identity
    if not remembered.is_cached:
        return False
    g.identity = replace(remembered, is_cached=False)
    g.identity = identify_again(remembered)
    is_another: bool = (g.identity.caller.role, g.identity.caller.status) != (
        remembered.caller.role,
        remembered.caller.status,
    )
    if is_another:
        for limiter in current_app.extensions["limiter"]:
            limiter.count_again()
    return is_another


def _check_access(access: Access, call: AnyCall) -> None:
    if access is Access.ANYONE:
        return
    if access is Access.PUBLIC or (access is Access.BOARD and current_components().settings.public_leaderboard):
        _ = call.optional_caller
        return
    caller = call.caller
    if access in _ROLES and caller.role is not _ROLES[access]:
        raise InsufficientPermissions
