"""Completing an action: accept it, ring for the workers, and wait for the outcome if the caller asks for that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

from scoreboard.live.queue.doorbell import Doorbell
from scoreboard.live.stream.hub import Expectation, Hub
from scoreboard.live.stream.outlet import Deadline
from scoreboard.services.actions.accept import Completion, accept_action
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.intake import Intake
from scoreboard.services.actions.issue import FindPlayer, player_of
from scoreboard.services.actions.outcomes import outcome_json, outcome_of
from scoreboard.services.actions.tokens import TokenBox
from scoreboard.store import actions
from scoreboard.store.actions import Action
from scoreboard.store.audit import Origin
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller
from scoreboard.wire.answers import SettledAction

# How often a waiting request looks at the row itself.
_LOOK_S = 1.0

#: Lets other requests in while this one only waits; whether it may wait at all.
Pause = Callable[[], AbstractContextManager[bool]]


@dataclass(frozen=True, slots=True)
class Completed:
    """The action is accepted; ``outcome`` as ``outcome_json`` makes it, None while it is not settled."""

    action_id: UUID
    outcome: SettledAction | None = None


@dataclass(frozen=True, slots=True)
class ActionCompletion:
    """The use case, with what it works with."""

    database: Database
    intake: Intake
    catalogue: Catalogue
    tokens: TokenBox
    doorbell: Doorbell
    hub: Hub
    pause: Pause

    def complete(
        self,
        completion: Completion,
        *,
        caller: Caller,
        on_behalf_of: UUID | None,
        find_player: FindPlayer,
        origin: Origin,
        wait_s: float | None = None,
    ) -> Completed:
        """Accept the action, or tell again what became of it; committed when this returns.

        With ``wait_s`` it waits so long for the outcome; it gives up early when too many wait.
        Raises what ``player_of`` and ``accept_action`` raise; then nothing has changed. Without Redis
        the outcome is read from Postgres; an error of Postgres while waiting leaves the action accepted.
        """
        player = player_of(find_player, caller, on_behalf_of)
        if wait_s is None:
            stored = self._accept(completion, caller, player, origin)
            return Completed(completion.action_id, told_outcome(stored))
        with self.hub.expect(completion.action_id) as expectation:
            stored = self._accept(completion, caller, player, origin)
            if stored is None or not stored.is_told:
                with self.pause() as may_wait:
                    stored = self._await(expectation, completion.action_id, wait_s if may_wait else 0)
        return Completed(completion.action_id, expectation.outcome or told_outcome(stored))

    def _accept(self, completion: Completion, caller: Caller, player: UUID, origin: Origin) -> Action | None:
        stored = accept_action(
            self.database,
            self.intake,
            self.catalogue,
            self.tokens,
            caller=caller,
            player=player,
            completion=completion,
            origin=origin,
        )
        if stored is None:
            self.doorbell.ring(completion.action_id)
        return stored

    def _await(self, expectation: Expectation, action_id: UUID, wait_s: float) -> Action | None:
        """Wait until the outcome is told, or stands in the row: the event may have been lost with Redis."""
        deadline = Deadline(wait_s)
        while expectation.wait(min(deadline.left_s, _LOOK_S)) is None:
            with self.database.read() as connection:
                stored = actions.get_action(connection, action_id)
            if deadline.left_s <= 0 or (stored is not None and stored.is_told):
                return stored
        return None


def told_outcome(stored: Action | None) -> SettledAction | None:
    """The outcome of a stored action, None before it is told."""
    if stored is None or not stored.is_told:
        return None
    return outcome_json(outcome_of(stored), stored.previous_rank, stored.rank)
