"""Issuing and accepting in one statement: each row has its own outcome, and no neighbour pays for another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from scoreboard.domain.actions import State
from scoreboard.domain.errors import TooManyOpenActions
from scoreboard.services.accounts.sessions import open_session
from scoreboard.services.actions.intake import CallerChanged, Intake, Taken
from scoreboard.store import actions, intake, sessions
from scoreboard.store.audit import Origin
from scoreboard.store.engine import Database
from scoreboard.store.intake import Acceptance, Issue
from scoreboard.store.sessions import Caller
from tests.integration.conftest import add_user

T = TypeVar("T")
MAX_OPEN = 3


def wanted(
    caller: Caller, *, player: UUID | None = None, ttl_s: int = 60, metadata: dict[str, object] | None = None
) -> Issue:
    token_hash = uuid4().bytes * 2
    return Issue(uuid7(), caller, player or caller.user_id, None, "puzzle", metadata or {}, token_hash, ttl_s)


def completion(issue: Issue, *, body: bytes = b"body", token_hash: bytes | None = None, data: str = "x") -> Acceptance:
    hashed = token_hash or issue.token_hash
    return Acceptance(
        issue.action_id, issue.caller, issue.user_id, hashed, 1_000, None, data, body * 8, "127.0.0.1", "tests"
    )


def sign_in(database: Database) -> Caller:
    """A new player's living session."""
    user = add_user(database)
    with database.write() as connection:
        session_id = open_session(connection, user, ttl_s=60, origin=Origin()).session_id
        found = sessions.get_caller(connection, session_id)
    assert found is not None
    return found[0]


def issue_all(database: Database, *rows: Issue) -> None:
    with database.autocommit() as connection:
        assert len(intake.issue(connection, rows, max_open=1_000)) == len(rows)


def state_of(database: Database, action_id: UUID) -> State:
    with database.read() as connection:
        stored = actions.get_action(connection, action_id)
    assert stored is not None
    return stored.state


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """What each call returned or raised, all made at the same time."""

    def outcome(call: Callable[[], T]) -> T | Exception:
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


def test_the_cap_counts_within_one_statement_in_order(database: Database) -> None:
    ann, bob = sign_in(database), sign_in(database)
    rows = [wanted(ann) for _ in range(MAX_OPEN + 2)] + [wanted(bob)]
    with database.autocommit() as connection:
        issued = intake.issue(connection, rows, max_open=MAX_OPEN)
    assert list(issued) == [row.action_id for row in [*rows[:MAX_OPEN], rows[-1]]]
    with database.autocommit() as connection:
        assert intake.issue(connection, [wanted(ann)], max_open=MAX_OPEN) == {}
        left = intake.next_expiries_s(connection, [ann.user_id, bob.user_id])
    assert 50 < left[ann.user_id] <= 60
    for each in issued.values():
        assert (each.expires_at - each.issued_at).total_seconds() == 60


@pytest.mark.parametrize("processes", [1, 3])
def test_the_cap_holds_whoever_asks_at_once(database: Database, processes: int) -> None:
    ann = sign_in(database)
    intakes = [Intake(database, max_open=MAX_OPEN) for _ in range(processes)]
    calls = [partial(intakes[n % processes].issue, wanted(ann)) for n in range(12)]
    outcomes = at_once(calls)
    refused = [each for each in outcomes if isinstance(each, TooManyOpenActions)]
    assert len(refused) == 12 - MAX_OPEN
    assert all(0 < each.retry_after_s <= 60 for each in refused)
    with database.read() as connection:
        count = sa.text("SELECT count(*) FROM actions WHERE user_id = :user")
        assert connection.execute(count, {"user": ann.user_id}).scalar_one() == MAX_OPEN


def test_expired_tokens_are_not_open(database: Database) -> None:
    ann = sign_in(database)
    issue_all(database, *(wanted(ann, ttl_s=0) for _ in range(5)))
    with database.autocommit() as connection:
        assert len(intake.issue(connection, [wanted(ann)], max_open=1)) == 1


def test_only_what_matches_is_accepted(database: Database) -> None:
    ann, bob = sign_in(database), sign_in(database)
    good, expired, stolen, forged = wanted(ann), wanted(ann, ttl_s=0), wanted(ann), wanted(ann)
    issue_all(database, good, expired, stolen, forged)
    foreign = Acceptance(stolen.action_id, bob, bob.user_id, stolen.token_hash, 1, None, None, b"b", None, None)
    rows = [completion(good), completion(expired), foreign, completion(forged, token_hash=b"?" * 32)]
    with database.autocommit() as connection:
        accepted = intake.accept(connection, [*rows, completion(wanted(ann))], max_open=MAX_OPEN)
        assert accepted == {(good.action_id, rows[0].body_digest): None}
        assert intake.accept(connection, rows, max_open=MAX_OPEN) == {}
    assert state_of(database, good.action_id) is State.ACCEPTED
    assert {state_of(database, each.action_id) for each in (expired, stolen, forged)} == {State.ISSUED}


def test_of_several_bodies_for_one_action_one_wins(database: Database) -> None:
    issue = wanted(sign_in(database))
    issue_all(database, issue)
    bodies = [completion(issue, body=body) for body in (b"aaaa", b"bbbb", b"cccc")]
    with database.autocommit() as connection:
        accepted = intake.accept(connection, bodies, max_open=MAX_OPEN)
    assert len(accepted) == 1
    with database.read() as connection:
        stored = actions.get_action(connection, issue.action_id)
    assert stored is not None
    assert {(issue.action_id, stored.body_digest)} == set(accepted)


def test_two_processes_that_accept_the_same_in_opposite_order_never_wait_in_a_ring(database: Database) -> None:
    ann = sign_in(database)

    def accept(part: list[Acceptance], together: Barrier) -> int:
        with database.autocommit() as connection:
            together.wait(10)
            return len(intake.accept(connection, part, max_open=MAX_OPEN))

    for _ in range(5):
        rows = [wanted(ann) for _ in range(400)]
        issue_all(database, *rows)
        completions, together = [completion(row) for row in rows], Barrier(2)
        counts = at_once([partial(accept, part, together) for part in (completions, completions[::-1])])
        assert all(isinstance(count, int) for count in counts), counts
        assert sum(count for count in counts if isinstance(count, int)) == len(rows)


def test_a_row_that_postgres_refuses_fails_alone(database: Database) -> None:
    ann = sign_in(database)
    gathered = Intake(database, max_open=100)
    rows = [wanted(ann) for _ in range(3)]
    # A foreign key without a user, and text that Postgres can't hold.
    with pytest.raises(DBAPIError):
        gathered.issue(wanted(ann, player=uuid4()))
    poisoned = [wanted(ann, metadata={"text": "\x00"}), wanted(ann, player=uuid4())]
    outcomes = at_once([partial(gathered.issue, row) for row in [*rows, *poisoned]])
    assert [isinstance(each, DBAPIError) for each in outcomes] == [False, False, False, True, True]
    bodies = [completion(rows[0]), completion(rows[1], data="bad \x00"), completion(rows[2])]
    accepted = at_once([partial(gathered.accept, body) for body in bodies])
    assert accepted[0] == accepted[2] == Taken(is_fresh=True)
    assert isinstance(accepted[1], Exception)
    assert [state_of(database, row.action_id) for row in rows] == [State.ACCEPTED, State.ISSUED, State.ACCEPTED]


def test_a_refused_completion_sees_the_stored_action(database: Database) -> None:
    issue = wanted(sign_in(database))
    issue_all(database, issue)
    gathered = Intake(database, max_open=100)
    assert gathered.accept(completion(issue)) == Taken(is_fresh=True)
    refused = gathered.accept(completion(issue, body=b"other"))
    assert not refused.is_fresh
    assert refused.stored is not None
    assert refused.stored.state is State.ACCEPTED
    assert refused.stored.body_digest == b"body" * 8
    assert gathered.accept(completion(wanted(issue.caller))) == Taken(is_fresh=False)


CHANGES = {
    "session ended": "UPDATE sessions SET revoked_at = now() WHERE id = :session",
    "session expired": "UPDATE sessions SET expires_at = now() WHERE id = :session",
    "banned": "UPDATE users SET status = 'banned' WHERE id = :user",
    "flagged": "UPDATE users SET status = 'flagged' WHERE id = :user",
    "another role": "UPDATE users SET role = 'system' WHERE id = :user",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_who_is_no_longer_who_they_were_neither_gets_nor_completes_an_action(database: Database, change: str) -> None:
    ann, bob = sign_in(database), sign_in(database)
    gathered = Intake(database, max_open=100)
    open_action = wanted(ann)
    gathered.issue(open_action)
    with database.write() as connection:
        connection.execute(sa.text(change), {"session": ann.session_id, "user": ann.user_id})
    outcomes = at_once([partial(gathered.issue, wanted(each)) for each in (bob, ann, bob)])
    assert [isinstance(each, CallerChanged) for each in outcomes] == [False, True, False]
    with pytest.raises(CallerChanged):
        gathered.accept(completion(open_action))
    assert state_of(database, open_action.action_id) is State.ISSUED
    with database.read() as connection:
        count = sa.text("SELECT count(*) FROM actions WHERE user_id = :user")
        assert connection.execute(count, {"user": ann.user_id}).scalar_one() == 1


def test_a_session_of_another_account_counts_for_nothing(database: Database) -> None:
    ann, bob = sign_in(database), sign_in(database)
    impostor = replace(ann, session_id=bob.session_id)
    with pytest.raises(CallerChanged):
        Intake(database, max_open=100).issue(wanted(impostor))
