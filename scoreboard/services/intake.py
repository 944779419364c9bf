"""Group commit of the request path: what comes together is issued, or accepted, in one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from scoreboard.domain.errors import TooManyOpenActions
from scoreboard.services.gather import Gather
from scoreboard.store import actions, intake
from scoreboard.store.actions import Action
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.intake import Acceptance, Issue, Issued

log = structlog.get_logger(__name__)

Row = TypeVar("Row")
Answer = TypeVar("Answer")
#: None for a fresh acceptance; else the stored action, or None in a tuple when there is no such action.
Refusal = tuple[Action | None]


class Intake:
    """``issue`` and ``accept`` are committed when they return; each caller gets its own answer or error.

    Both raise ServiceUnavailable when too many wait, and SQLAlchemy's OperationalError
    when Postgres is down; then nothing has changed, or, if only its reply was lost,
    the same call may be made again.
    """

    def __init__(self, database: Database, *, max_open: int) -> None:
        self._database = database
        self._max_open = max_open
        #: Issues one action; raises TooManyOpenActions.
        self.issue: Gather[Issue, Issued] = Gather(_apart(self._issue))
        #: Accepts one completion; see Refusal.
        self.accept: Gather[Acceptance, Refusal | None] = Gather(_apart(self._accept))

    def _issue(self, wanted: Sequence[Issue]) -> list[Issued | Exception]:
        with self._database.autocommit() as connection:
            issued = intake.issue(connection, wanted, max_open=self._max_open)
            refused = {each.user_id for each in wanted if each.action_id not in issued}
            expiries = intake.next_expiries_s(connection, refused) if refused else {}
        return [issued.get(each.action_id) or TooManyOpenActions(expiries.get(each.user_id, 1.0)) for each in wanted]

    def _accept(self, completions: Sequence[Acceptance]) -> list[Refusal | Exception | None]:
        with self._database.autocommit() as connection:
            accepted = intake.accept(connection, completions)
            refused = {each.action_id for each in completions if (each.action_id, each.body_digest) not in accepted}
            found = actions.get_actions(connection, list(refused)) if refused else []
        stored = {each.id: each for each in found}
        return [(stored.get(each.action_id),) if each.action_id in refused else None for each in completions]


def _apart(
    do: Callable[[Sequence[Row]], list[Answer | Exception]],
) -> Callable[[Sequence[Row]], list[Answer | Exception]]:
    """The same, but a row that Postgres refuses fails alone: then each is done by itself."""

    def done(rows: Sequence[Row]) -> list[Answer | Exception]:
        try:
            return do(rows)
        except UNAVAILABLE:
            raise
        except Exception as error:  # Postgres refuses a row, or psycopg2 a value in it
            log.warning("intake_batch_refused", error=str(error).splitlines()[0], rows=len(rows))
            if len(rows) == 1:
                raise
        return [answer for row in rows for answer in _alone(do, row)]

    return done


def _alone(do: Callable[[Sequence[Row]], list[Answer | Exception]], row: Row) -> list[Answer | Exception]:
    try:
        return do([row])
    except UNAVAILABLE:
        raise
    except Exception as error:  # this row's own answer
        return [error]
