"""Handing out an action token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from scoreboard.domain.accounts import Role
from scoreboard.domain.actions import points_at_most
from scoreboard.domain.errors import AccountBanned, InsufficientPermissions, NotFound, TooManyOpenActions
from scoreboard.services.action_tokens import TokenBox, token_hash
from scoreboard.services.catalogue import Catalogue
from scoreboard.store import actions, users
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller


@dataclass(frozen=True, slots=True)
class IssuedAction:
    action_id: UUID
    action_token: str
    proof_key: str
    issued_at: datetime
    expires_at: datetime
    max_points: int


def player_of(database: Database, caller: Caller, on_behalf_of: UUID | None) -> UUID:
    """Whose action it is: the caller's own, or that of the player a trusted game server acts for.

    Raises InsufficientPermissions, NotFound, AccountBanned.
    """
    if on_behalf_of is None:
        if caller.role is Role.SYSTEM:
            raise InsufficientPermissions("A system account acts for a player: say for whom in onBehalfOf.")
        return caller.user_id
    if caller.role is not Role.SYSTEM:
        raise InsufficientPermissions("Only a system account may act for others.")
    with database.read() as connection:
        player = users.get_user(connection, on_behalf_of)
    if player is None or player.role is Role.SYSTEM:
        raise NotFound("There is no such player.")
    if player.is_banned:
        raise AccountBanned
    return player.id


def issue_action(
    database: Database,
    catalogue: Catalogue,
    tokens: TokenBox,
    *,
    caller: Caller,
    on_behalf_of: UUID | None,
    action_type: str,
    metadata: Mapping[str, object],
    ttl_s: int,
    max_open: int,
) -> IssuedAction:
    """Issue a token bound to player, action, type and metadata.

    Raises ValidationFailed, TooManyOpenActions and what ``player_of`` raises.
    """
    known = catalogue.check_request(action_type, metadata)
    player = player_of(database, caller, on_behalf_of)
    action_id = uuid7()
    token, proof_key = tokens.seal_action(action_id, player, action_type)
    with database.write() as connection:
        issued_at = actions.lock_open_actions(connection, player)
        expires_at = issued_at + timedelta(seconds=ttl_s)
        is_issued = actions.insert_issued(
            connection,
            action_id=action_id,
            user_id=player,
            issued_by=caller.user_id if on_behalf_of else None,
            action_type=action_type,
            metadata=metadata,
            token_hash=token_hash(token),
            issued_at=issued_at,
            expires_at=expires_at,
            max_open=max_open,
        )
        if not is_issued:
            raise TooManyOpenActions(actions.next_expiry_s(connection, player))
    return IssuedAction(action_id, token, proof_key, issued_at, expires_at, points_at_most(known, metadata))
