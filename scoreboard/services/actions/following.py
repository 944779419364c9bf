"""The action that a completion asks for next: issued with it or after it, told again to those who repeat it.

Its id follows from the completion (``next_action_id``), so there is one at most, and it is found again
without a note of its own. Its token is sealed again for a repeat: the stored hash says by which key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from scoreboard.domain.actions import State, next_action_id, points_at_most
from scoreboard.domain.errors import ServiceUnavailable
from scoreboard.services.accounts.callers import CallerLookup
from scoreboard.services.accounts.sessions import identify
from scoreboard.services.actions.accept import Completion
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.intake import CallerChanged, Intake
from scoreboard.services.actions.issue import OpenAction, PreparedIssue, player_of, prepare_issue
from scoreboard.services.actions.read import as_shown
from scoreboard.services.actions.tokens import TokenBox
from scoreboard.store import actions
from scoreboard.store.actions import Action
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller


@dataclass(frozen=True, slots=True)
class NextWanted:
    """What the client asks for next."""

    action_type: str
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NextState:
    """Where the next action stands whose token is no use any more."""

    action_id: UUID
    state: State


#: The token, what became of it, or why there is none.
NextAnswer = OpenAction | NextState | Exception


class RequestLimit(Protocol):
    """The limits of requesting an action, as they count for this caller."""

    def spend(self) -> None:
        """Count one request. Raises a ScoreboardError when that is one too many."""
        ...

    def give_back(self) -> None:
        """Take back what ``spend`` has counted: nothing was issued for it."""
        ...


@dataclass(frozen=True, slots=True)
class FollowingActions:
    """Issues next actions, and finds those that were issued."""

    database: Database
    intake: Intake
    catalogue: Catalogue
    tokens: TokenBox
    callers: CallerLookup
    # Unix seconds by the database's clock.
    clock: Callable[[], float]
    ttl_s: int

    def prepare(self, completion: Completion, wanted: NextWanted, *, caller: Caller, player: UUID) -> PreparedIssue:
        """Raises ValidationFailed."""
        return prepare_issue(
            self.tokens,
            action_id=next_action_id(completion.action_id, completion.proof.completion_time_ms),
            caller=caller,
            player=player,
            action_type=self.catalogue.check_request(wanted.action_type, wanted.metadata),
            metadata=wanted.metadata,
            ttl_s=self.ttl_s,
        )

    def issue(self, prepared: PreparedIssue) -> OpenAction:
        """Issue it after its completion: since the caller was checked some time may have passed.

        Raises what a request of its own would be refused with, and AlreadyIssued.
        """
        issue = prepared.issue
        on_behalf_of = issue.user_id if issue.issued_by else None
        if on_behalf_of is not None:
            player_of(self.callers.find_player, issue.caller, on_behalf_of)
        try:
            return prepared.issued(self.intake.issue(issue))
        except CallerChanged:
            self.callers.forget(issue.caller.session_id)
            caller = identify(self.callers, issue.caller.session_id, issue.caller.user_id)
        player_of(self.callers.find_player, caller, on_behalf_of)
        try:
            return prepared.issued(self.intake.issue(replace(issue, caller=caller)))
        except CallerChanged:
            # Twice within a moment: somebody is at work on this account.
            raise ServiceUnavailable from None

    def find(self, action_id: UUID) -> Action | None:
        """Raises what a database that is down raises."""
        with self.database.read() as connection:
            return actions.get_action(connection, action_id)

    def tell(self, action: Action) -> OpenAction | NextState:
        """The token once more while it is good for anything, or what became of the action."""
        shown = as_shown(action, self.clock())
        sealed = None
        if shown.state is State.ISSUED:
            sealed = self.tokens.seal_again(action.id, action.user_id, action.action_type, hashed=action.token_hash)
        action_type = self.catalogue.get(action.action_type)
        if sealed is None or action_type is None:
            return NextState(action.id, shown.state)
        token, proof_key = sealed
        try:
            max_points = points_at_most(action_type, action.metadata)
        except ValueError:
            # The catalogue has changed since.
            return NextState(action.id, shown.state)
        return OpenAction(action.id, token, proof_key, action.issued_at, action.expires_at, max_points)
