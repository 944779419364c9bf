"""Completing an action: accept it, ring for the workers, wait for the outcome, issue what is asked for next."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

import structlog

from scoreboard.domain.errors import ScoreboardError
from scoreboard.live.queue.doorbell import Doorbell
from scoreboard.live.stream.expectations import Expectation
from scoreboard.live.stream.hub import Hub
from scoreboard.live.stream.outlet import Deadline
from scoreboard.services.actions.accept import Completion, accept_action, check_completion
from scoreboard.services.actions.following import FollowingActions, NextAnswer, NextWanted, RequestLimit
from scoreboard.services.actions.intake import AlreadyIssued, Taken
from scoreboard.services.actions.issue import FindPlayer, PreparedIssue, player_of
from scoreboard.services.actions.outcomes import outcome_json, outcome_of
from scoreboard.store.actions import Action
from scoreboard.store.audit import Origin
from scoreboard.store.engine import UNAVAILABLE
from scoreboard.store.intake import Issued
from scoreboard.store.refusals import explain
from scoreboard.store.sessions import Caller
from scoreboard.wire.answers import SettledAction

log = structlog.get_logger(__name__)

# How often a waiting request looks at the row itself.
_LOOK_S = 1.0

#: Lets other requests in while this one only waits; whether it may wait at all.
Pause = Callable[[], AbstractContextManager[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionCall:
    """A completion, and all about the request that brings it."""

    completion: Completion
    caller: Caller
    on_behalf_of: UUID | None
    find_player: FindPlayer
    origin: Origin
    # For so many seconds the outcome is waited for; None: not at all.
    wait_s: float | None = None
    # What is asked for next, or why that can't be understood; it counts against the limits of a request.
    wanted: NextWanted | ScoreboardError | None = None
    request_limit: RequestLimit


@dataclass(frozen=True, slots=True)
class Completed:
    """The action is accepted; ``outcome`` as ``outcome_json`` makes it, None while it is not settled."""

    action_id: UUID
    outcome: SettledAction | None = None
    # None when nothing was asked for, now or with the first answer.
    next: NextAnswer | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for next: ready to be issued, or refused."""

    prepared: PreparedIssue | None = None
    refusal: ScoreboardError | None = None


@dataclass(frozen=True, slots=True)
class CompleteAction:
    """The use case, with what it works with."""

    following: FollowingActions
    doorbell: Doorbell
    hub: Hub
    pause: Pause

    def complete(self, call: CompletionCall) -> Completed:
        """Accept the action, or tell again what became of it; committed when this returns.

        With ``wait_s`` the call waits for the outcome, and gives up early when too many wait; the next action is
        issued after that, else by the statement that accepts. Either way it never harms the completion.
        Raises what ``player_of``, ``check_completion`` and ``accept_action`` raise; then nothing has changed. Without
        Redis the outcome is read from Postgres; without Postgres the wait goes on.
        """
        player = player_of(call.find_player, call.caller, call.on_behalf_of)
        check_completion(
            self.following.database,
            self.following.catalogue,
            self.following.tokens,
            player=player,
            completion=call.completion,
            origin=call.origin,
        )
        asked = self._ask(call, player)
        try:
            if call.wait_s is None:
                taken = self._accept(call, player, asked)
                outcome = told_outcome(taken.stored)
            else:
                taken, outcome = self._accept_and_wait(call, player, call.wait_s)
        except BaseException:
            call.request_limit.give_back()
            raise
        return Completed(call.completion.action_id, outcome, self._next(call, asked, taken))

    def _ask(self, call: CompletionCall, player: UUID) -> _Asked | None:
        """In the order in which a request of its own would be refused."""
        if call.wanted is None:
            return None
        try:
            call.request_limit.spend()
            if isinstance(call.wanted, ScoreboardError):
                return _Asked(refusal=call.wanted)
            return _Asked(self.following.prepare(call.completion, call.wanted, caller=call.caller, player=player))
        except ScoreboardError as error:
            return _Asked(refusal=error)

    def _accept(self, call: CompletionCall, player: UUID, asked: _Asked | None) -> Taken:
        taken = accept_action(
            self.following.intake,
            caller=call.caller,
            player=player,
            completion=call.completion,
            origin=call.origin,
            following=asked.prepared.issue if asked and asked.prepared else None,
        )
        if taken.is_fresh:
            self.doorbell.ring(call.completion.action_id)
        return taken

    def _accept_and_wait(self, call: CompletionCall, player: UUID, wait_s: float) -> tuple[Taken, SettledAction | None]:
        action_id = call.completion.action_id
        with self.hub.expect(action_id) as expectation:
            taken = self._accept(call, player, None)
            stored = taken.stored
            if stored is None or not stored.is_told:
                with self.pause() as may_wait:
                    stored = self._await(expectation, action_id, wait_s if may_wait else 0)
        return taken, expectation.outcome or told_outcome(stored)

    def _await(self, expectation: Expectation, action_id: UUID, wait_s: float) -> Action | None:
        """Wait until the outcome is told, or stands in the row: the event may have been lost with Redis."""
        deadline = Deadline(wait_s)
        while expectation.wait(min(deadline.left_s, _LOOK_S)) is None:
            stored = self._look(action_id)
            if deadline.left_s <= 0 or (stored is not None and stored.is_told):
                return stored
        return None

    def _look(self, action_id: UUID) -> Action | None:
        try:
            return self.following.find(action_id)
        except UNAVAILABLE as error:
            # The action is accepted: the caller learns that, if nothing better in time.
            log.warning("outcome_not_read", error=explain(error))
            return None

    def _next(self, call: CompletionCall, asked: _Asked | None, taken: Taken) -> NextAnswer | None:
        """Whatever goes wrong here is an answer: the completion stands."""
        following = taken.following
        try:
            if isinstance(following, Action):
                return self._tell_again(call, following)
            if asked is None or asked.prepared is None:
                return asked.refusal if asked else None
            if isinstance(following, Issued):
                return asked.prepared.issued(following)
            return following or self.following.issue(asked.prepared)
        except AlreadyIssued as error:
            return self._tell_again(call, error.action)
        except Exception as error:  # told as the service's own errors are
            return error

    def _tell_again(self, call: CompletionCall, action: Action) -> NextAnswer:
        call.request_limit.give_back()
        # It may have been completed while this call waited.
        newest = action if call.wait_s is None else self.following.find(action.id)
        return self.following.tell(newest or action)


def told_outcome(stored: Action | None) -> SettledAction | None:
    """The outcome of a stored action, None before it is told."""
    if stored is None or not stored.is_told:
        return None
    return outcome_json(outcome_of(stored), stored.previous_rank, stored.rank)
