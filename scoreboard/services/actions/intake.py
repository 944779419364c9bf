"""Group commit of the request path: what comes together is issued, or accepted, in one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar
from uuid import UUID

import sqlalchemy as sa
import structlog

from scoreboard.coalesce import Coalescer
from scoreboard.domain.errors import TooManyOpenActions
from scoreboard.store import actions, intake, sessions
from scoreboard.store.actions import Action
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.intake import Acceptance, Issue, Issued
from scoreboard.store.refusals import explain, is_lock_timeout
from scoreboard.store.sessions import Caller

log = structlog.get_logger(__name__)

Row = TypeVar("Row")
Answer = TypeVar("Answer")


class CallerChanged(Exception):
    """No answer yet: the session has ended, or the account is not what it was. Find out who calls, and ask again."""


class AlreadyIssued(Exception):
    """There is an action of this id: ``action``."""

    def __init__(self, action: Action) -> None:
        self.action = action
        super().__init__(str(action.id))


class Taken(NamedTuple):
    """What became of a completion."""

    #: Accepted just now, by this call and no other.
    is_fresh: bool
    #: The action of one that was not accepted now, None if there is no such action.
    stored: Action | None = None
    #: The action that follows it: issued with a fresh one, or why not; found stored behind another. None without one.
    following: Issued | Action | Exception | None = None


class Intake:
    """``issue`` and ``accept`` are committed when they return; each caller gets its own answer or error.

    Both raise ServiceUnavailable when too many wait, and SQLAlchemy's OperationalError
    when Postgres is down; then nothing has changed, or, if only its reply was lost,
    the same call may be made again.
    """

    def __init__(self, database: Database, *, max_open: int) -> None:
        self._database = database
        self._max_open = max_open
        #: Issues one action; raises TooManyOpenActions, CallerChanged, AlreadyIssued.
        self.issue: Coalescer[Issue, Issued] = Coalescer(_apart(self._issue))
        #: Accepts one completion, and issues the action that follows it; raises CallerChanged.
        self.accept: Coalescer[Acceptance, Taken] = Coalescer(_apart(self._accept))

    def _issue(self, wanted: Sequence[Issue]) -> list[Issued | Exception]:
        with self._database.autocommit() as connection:
            issued = intake.issue(connection, wanted, max_open=self._max_open)
            # Of several of one id the first was issued.
            firsts = {issue.action_id: issue for issue in reversed(wanted) if issue.action_id in issued}
            refused = [issue for issue in wanted if firsts.get(issue.action_id) is not issue]
            changed = _changed(connection, refused)
            stored = _stored(connection, [issue.action_id for issue in refused])
            expiries = _expiries(connection, refused)

        def refusal(issue: Issue) -> Exception:
            if issue.caller in changed:
                return CallerChanged()
            if (action := stored.get(issue.action_id)) is not None and action.user_id == issue.user_id:
                return AlreadyIssued(action)
            return TooManyOpenActions(expiries.get(issue.user_id, 1.0))

        return [issued[issue.action_id] if firsts.get(issue.action_id) is issue else refusal(issue) for issue in wanted]

    def _accept(self, completions: Sequence[Acceptance]) -> list[Taken | Exception]:
        """What follows an acceptance never harms it: what Postgres can't issue is left out, and told."""
        try:
            return self._accept_with_following(completions)
        except Exception as error:
            has_following = any(completion.following for completion in completions)
            # A lock that isn't free may be that of one player's open actions.
            if not has_following or not (is_lock_timeout(error) or _is_about_one(error, completions)):
                raise
            log.warning("next_not_issued", error=explain(error), rows=len(completions))
            answers = self._accept_with_following([replace(completion, following=None) for completion in completions])
            return [
                answer._replace(following=error)
                if completion.following and isinstance(answer, Taken) and answer.is_fresh
                else answer
                for completion, answer in zip(completions, answers, strict=True)
            ]

    def _accept_with_following(self, completions: Sequence[Acceptance]) -> list[Taken | Exception]:
        # Of several of one body the first is accepted, and the others are told what became of it.
        firsts = {_key(completion): nth for nth, completion in reversed(list(enumerate(completions)))}
        with self._database.autocommit() as connection:
            accepted = intake.accept(connection, [completions[nth] for nth in firsts.values()], max_open=self._max_open)
            fresh = {nth for key, nth in firsts.items() if key in accepted}
            refused = [completion for nth, completion in enumerate(completions) if nth not in fresh]
            changed = _changed(connection, refused)
            ids = [action_id for completion in refused for action_id in (completion.action_id, completion.next_id)]
            stored = _stored(connection, ids)
            crowded = [
                following
                for key, nth in firsts.items()
                if (following := completions[nth].following) and key in accepted and accepted[key] is None
            ]
            expiries = _expiries(connection, crowded)

        def outcome(nth: int, completion: Acceptance) -> Taken | Exception:
            if nth in fresh:
                issued = accepted[_key(completion)]
                if issued is None and completion.following:
                    return Taken(True, None, TooManyOpenActions(expiries.get(completion.user_id, 1.0)))
                return Taken(True, None, issued)
            if completion.caller in changed:
                return CallerChanged()
            return Taken(False, stored.get(completion.action_id), stored.get(completion.next_id))

        return [outcome(nth, completion) for nth, completion in enumerate(completions)]


def _key(completion: Acceptance) -> tuple[UUID, bytes]:
    return completion.action_id, completion.body_digest


def _is_about_one(error: Exception, completions: Sequence[Acceptance]) -> bool:
    """Whether Postgres refuses the only row there is, and not because it is down."""
    return len(completions) == 1 and not isinstance(error, UNAVAILABLE)


def _stored(connection: sa.Connection, action_ids: Sequence[UUID]) -> dict[UUID, Action]:
    return {action.id: action for action in actions.get_actions(connection, action_ids)} if action_ids else {}


def _expiries(connection: sa.Connection, refused: Sequence[Issue]) -> dict[UUID, float]:
    """Seconds until the first open action of these players expires."""
    return intake.next_expiries_s(connection, {issue.user_id for issue in refused}) if refused else {}


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
