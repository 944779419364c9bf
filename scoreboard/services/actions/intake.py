"""Group commit of the request path: what comes together is issued, or accepted, in one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa
import structlog

from scoreboard.coalesce import Coalescer
from scoreboard.domain.errors import TooManyOpenActions
from scoreboard.store import actions, intake, sessions
from scoreboard.store.actions import Action
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.intake import Acceptance, Issue, Issued
from scoreboard.store.sessions import Caller

log = structlog.get_logger(__name__)

Row = TypeVar("Row")
Answer = TypeVar("Answer")
#: None for a fresh acceptance; else the stored action, or None in a tuple when there is no such action.
Refusal = tuple[Action | None]


class CallerChanged(Exception):
    """No answer yet: the session has ended, or the account is not what it was. Find out who calls, and ask again."""


class Intake:
    """``issue`` and ``accept`` are committed when they return; each caller gets its own answer or error.

    Both raise ServiceUnavailable when too many wait, and SQLAlchemy's OperationalError
    when Postgres is down; then nothing has changed, or, if only its reply was lost,
    the same call may be made again.
    """

    def __init__(self, database: Database, *, max_open: int) -> None:
        self._database = database
        self._max_open = max_open
        #: Issues one action; raises TooManyOpenActions, CallerChanged.
        self.issue: Coalescer[Issue, Issued] = Coalescer(_apart(self._issue))
        #: Accepts one completion; see Refusal. Raises CallerChanged.
        self.accept: Coalescer[Acceptance, Refusal | None] = Coalescer(_apart(self._accept))

    def _issue(self, wanted: Sequence[Issue]) -> list[Issued | Exception]:
        with self._database.autocommit() as connection:
            issued = intake.issue(connection, wanted, max_open=self._max_open)
            refused = [each for each in wanted if each.action_id not in issued]
            changed = _changed(connection, refused)
            players = {each.user_id for each in refused}
            expiries = intake.next_expiries_s(connection, players) if players else {}

        def refusal(each: Issue) -> Exception:
            return CallerChanged() if each.caller in changed else TooManyOpenActions(expiries.get(each.user_id, 1.0))

        return [issued.get(each.action_id) or refusal(each) for each in wanted]

    def _accept(self, completions: Sequence[Acceptance]) -> list[Refusal | Exception | None]:
        with self._database.autocommit() as connection:
            accepted = intake.accept(connection, completions)
            refused = [each for each in completions if (each.action_id, each.body_digest) not in accepted]
            changed = _changed(connection, refused)
            ids = {each.action_id for each in refused}
            stored = {each.id: each for each in actions.get_actions(connection, list(ids))} if ids else {}

        def outcome(each: Acceptance) -> Refusal | Exception | None:
            if each.action_id not in ids:
                return None
            return CallerChanged() if each.caller in changed else (stored.get(each.action_id),)

        return [outcome(each) for each in completions]


def _changed(connection: sa.Connection, refused: Sequence[Issue | Acceptance]) -> set[Caller]:
    """Those callers of refused rows who are not, or no longer, who they were taken for."""
    callers = {each.caller for each in refused}
    if not callers:
        return set()
    found = sessions.get_callers(connection, {each.session_id for each in callers})
    return {each for each in callers if not _is_still(each, found.get(each.session_id))}


def _is_still(caller: Caller, found: tuple[Caller, bool] | None) -> bool:
    if found is None or not found[1]:
        return False
    now = found[0]
    return (now.user_id, now.role, now.status) == (caller.user_id, caller.role, caller.status)


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
