"""Who may see the inside of the service: in production admins, and the bearer of OPERATOR_TOKEN."""

from __future__ import annotations

from scoreboard.domain.accounts import Role
from scoreboard.domain.errors import AccountBanned, InsufficientPermissions, InvalidToken, TokenExpired
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.bearer import bears
from scoreboard.web.door.call import BareCall

#: What an operation for operators may refuse.
REFUSALS = (InvalidToken, TokenExpired, InsufficientPermissions, AccountBanned)


def check_operator(call: BareCall) -> None:
    """Open in development. Raises InvalidToken, InsufficientPermissions."""
    settings = current_components().settings
    if not settings.is_production:
        return
    if settings.operator_token and bears(call.authorization, settings.operator_token):
        return
    caller = call.optional_caller
    if caller is None:
        raise InvalidToken
    if caller.role is not Role.ADMIN:
        raise InsufficientPermissions
