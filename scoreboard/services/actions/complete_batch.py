"""Completing a batch: take it in, ring, and wait for the outcomes if the caller wants to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from scoreboard.domain.errors import ScoreboardError
from scoreboard.live.queue.doorbell import Doorbell
from scoreboard.live.stream.expectations import Expectations
from scoreboard.live.stream.hub import Hub
from scoreboard.live.stream.outlet import Deadline
from scoreboard.services.actions.batch import Answer, BatchIntake, CountPlays, Row, TakenRow, accept_batch
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.complete import Pause, told_outcome
from scoreboard.services.actions.outcomes import accepted_json
from scoreboard.store import actions
from scoreboard.store.audit import Origin
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller
from scoreboard.wire.answers import SettledAction

# How often a waiting call looks at the rows themselves: an event may have been lost with Redis.
_LOOK_S = 1.0

#: An outcome, or the state accepted; or why the row was refused.
Result = SettledAction | ScoreboardError


@dataclass(frozen=True)
class BatchCompletion:
    """Completes batches with the parts of one process."""

    database: Database
    intake: BatchIntake
    catalogue: Catalogue
    hub: Hub
    doorbell: Doorbell
    pause: Pause

    def complete(
        self, rows: Sequence[Row], *, caller: Caller, origin: Origin, count: CountPlays, wait_s: float | None
    ) -> list[Result]:
        """What became of each row, in their order; what is taken in is committed when this returns.

        Waits for up to ``wait_s`` seconds until all are settled. Raises what ``accept_batch`` raises.
        """

        def accept(before_accepting: Callable[[Collection[UUID]], object] = lambda _: None) -> list[Answer]:
            answers = accept_batch(
                self.intake,
                self.catalogue,
                count,
                caller=caller,
                rows=rows,
                origin=origin,
                before_accepting=before_accepting,
            )
            self.doorbell.ring(
                *{answer.action_id for answer in answers if isinstance(answer, TakenRow) and answer.is_new}
            )
            return answers

        if wait_s is None:
            answers = accept()
            return _results(answers, self._told(_old_ones(answers)))
        with self.hub.expect_each() as (expectations, expect):
            answers = accept(expect)
            # Another call may have been first with the same ids a moment ago.
            expect(_ids(answers))
            told = self._told(_old_ones(answers))
            told |= self._await(expectations, _ids(answers) - told.keys(), wait_s)
        return _results(answers, told)

    def _await(
        self, expectations: Expectations, action_ids: Collection[UUID], wait_s: float
    ) -> dict[UUID, SettledAction]:
        """The outcomes that come in time, or stand in the rows."""
        if not action_ids:
            return {}
        expectations.narrow(action_ids)
        with self.pause() as may_wait:
            deadline = Deadline(wait_s if may_wait else 0)
            while not expectations.wait(min(deadline.left_s, _LOOK_S)):
                for action_id, outcome in self._told(expectations.missing).items():
                    expectations.fulfil(action_id, outcome)
                if deadline.left_s <= 0:
                    break
        return expectations.outcomes

    def _told(self, action_ids: Collection[UUID]) -> dict[UUID, SettledAction]:
        """The outcomes of those that have one by now."""
        if not action_ids:
            return {}
        with self.database.read() as connection:
            stored = actions.get_actions(connection, list(action_ids))
        outcomes = {action.id: told_outcome(action) for action in stored}
        return {action_id: outcome for action_id, outcome in outcomes.items() if outcome is not None}


def _ids(answers: Sequence[Answer]) -> set[UUID]:
    return {answer.action_id for answer in answers if isinstance(answer, TakenRow)}


def _old_ones(answers: Sequence[Answer]) -> set[UUID]:
    return {answer.action_id for answer in answers if isinstance(answer, TakenRow) and not answer.is_new}


def _results(answers: Sequence[Answer], told: dict[UUID, SettledAction]) -> list[Result]:
    return [
        (told.get(answer.action_id) or accepted_json(answer.action_id)) if isinstance(answer, TakenRow) else answer
        for answer in answers
    ]
