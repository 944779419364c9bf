"""Handing out an action token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.actions import ActionType, points_at_most
from scoreboard.domain.errors import AccountBanned, InsufficientPermissions, NotFound
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.intake import Intake
from scoreboard.services.actions.tokens import TokenBox, token_hash
from scoreboard.store.intake import Issue, Issued, ServedPlayer
from scoreboard.store.sessions import Caller

#: The account of this id; raises what ``CallerLookup.find_player`` raises.
FindPlayer = Callable[[UUID], ServedPlayer | None]


@dataclass(frozen=True, slots=True)
class OpenAction:
    action_id: UUID
    action_token: str
    proof_key: str
    issued_at: datetime
    expires_at: datetime
    max_points: int


def player_of(find_player: FindPlayer, caller: Caller, on_behalf_of: UUID | None) -> UUID:
    """Whose action it is: the caller's own, or that of the player a trusted game server acts for.

    Raises InsufficientPermissions, NotFound, AccountBanned.
    """
    if on_behalf_of is None:
        if caller.role is Role.SYSTEM:
            raise InsufficientPermissions("A system account acts for a player: say for whom in onBehalfOf.")
        return caller.user_id
    if caller.role is not Role.SYSTEM:
        raise InsufficientPermissions("Only a system account may act for others.")
    return served_player(find_player(on_behalf_of)).id


def served_player(player: ServedPlayer | None) -> ServedPlayer:
    """The player, if a game server may act for this account. Raises NotFound, AccountBanned."""
    if player is None or player.role is Role.SYSTEM:
        raise NotFound("There is no such player.")
    if player.status is Status.BANNED:
        raise AccountBanned
    return player


@dataclass(frozen=True, slots=True)
class PreparedIssue:
    """An action that may be issued, and what its player is told of it then."""

    issue: Issue
    action_token: str
    proof_key: str
    max_points: int

    def issued(self, times: Issued) -> OpenAction:
        return OpenAction(
            self.issue.action_id,
            self.action_token,
            self.proof_key,
            times.issued_at,
            times.expires_at,
            self.max_points,
        )


def prepare_issue(
    tokens: TokenBox,
    *,
    action_id: UUID,
    caller: Caller,
    player: UUID,
    action_type: ActionType,
    metadata: Mapping[str, object],
    ttl_s: int,
) -> PreparedIssue:
    """Seal the token of an action whose metadata fit its type."""
    token, proof_key = tokens.seal_action(action_id, player, action_type.code)
    issuer = caller.user_id if caller.user_id != player else None
    issue = Issue(action_id, caller, player, issuer, action_type.code, metadata, token_hash(token), ttl_s)
    return PreparedIssue(issue, token, proof_key, points_at_most(action_type, metadata))


def issue_action(
    intake: Intake,
    find_player: FindPlayer,
    catalogue: Catalogue,
    tokens: TokenBox,
    *,
    caller: Caller,
    on_behalf_of: UUID | None,
    action_type: str,
    metadata: Mapping[str, object],
    ttl_s: int,
) -> OpenAction:
    """Issue a token bound to player, action, type and metadata.

    Raises ValidationFailed and what ``player_of`` and ``Intake.issue`` raise.
    """
    known = catalogue.check_request(action_type, metadata)
    prepared = prepare_issue(
        tokens,
        action_id=uuid7(),
        caller=caller,
        player=player_of(find_player, caller, on_behalf_of),
        action_type=known,
        metadata=metadata,
        ttl_s=ttl_s,
    )
    return prepared.issued(intake.issue(prepared.issue))
