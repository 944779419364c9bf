"""Accepting, and issuing the next action, in one statement: one at most, and never to the completion's harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from uuid_utils.compat import uuid7

from scoreboard.domain.actions import State, next_action_id
from scoreboard.domain.errors import TooManyOpenActions
from scoreboard.services.actions.intake import AlreadyIssued, CallerChanged, Intake, Taken
from scoreboard.store import actions, intake
from scoreboard.store.actions import Action
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.intake import Acceptance, Issue, Issued
from tests.integration.life_cycle_world import MuteDatabase
from tests.integration.test_intake import MAX_OPEN, at_once, completion, issue_all, sign_in, state_of, wanted


def asking(issue: Issue, *, action_type: str = "puzzle", metadata: dict[str, object] | None = None) -> Acceptance:
    """A completion of this action that asks for the next one."""
    asked = completion(issue)
    following = replace(wanted(issue.caller), action_type=action_type, metadata=metadata or {}, user_id=issue.user_id)
    return replace(asked, following=replace(following, action_id=asked.next_id))


def stored(database: Database, action_id: UUID) -> Action:
    with database.read() as connection:
        action = actions.get_action(connection, action_id)
    assert action is not None
    return action


def open_actions(database: Database, user_id: UUID) -> int:
    count = sa.text("SELECT count(*) FROM actions WHERE user_id = :user AND state = 'issued'")
    with database.read() as connection:
        return int(connection.execute(count, {"user": user_id}).scalar_one())


def test_the_next_action_begins_when_the_completed_one_is_accepted(database: Database) -> None:
    ann = sign_in(database)
    issue = wanted(ann)
    issue_all(database, issue)
    body = asking(issue, action_type="other", metadata={"level": 7})
    taken = Intake(database, max_open=MAX_OPEN).accept(body)
    following = stored(database, body.next_id)
    assert taken == Taken(True, None, Issued(following.issued_at, following.expires_at))
    assert following.issued_at == stored(database, issue.action_id).accepted_at
    assert (following.expires_at - following.issued_at).total_seconds() == 60
    assert (following.user_id, following.action_type, following.metadata) == (ann.user_id, "other", {"level": 7})
    assert following.state is State.ISSUED
    assert body.following is not None
    assert following.token_hash == body.following.token_hash


def test_completions_make_room_before_what_comes_next_is_counted(database: Database) -> None:
    ann, bob = sign_in(database), sign_in(database)
    issues = [wanted(ann) for _ in range(MAX_OPEN)] + [wanted(bob)]
    issue_all(database, *issues)
    with database.autocommit() as connection:
        accepted = intake.accept(connection, [asking(issue) for issue in issues], max_open=MAX_OPEN)
    assert all(accepted.values())
    assert open_actions(database, ann.user_id) == MAX_OPEN
    # Over the cap already, as it was lowered: one makes room for none.
    gathered = Intake(database, max_open=1)
    assert open_actions(database, bob.user_id) == 1
    issue_all(database, more := wanted(bob), wanted(bob))
    taken = gathered.accept(asking(more))
    assert taken.is_fresh
    assert isinstance(taken.following, TooManyOpenActions)
    assert 0 < taken.following.retry_after_s <= 60
    assert state_of(database, more.action_id) is State.ACCEPTED


def test_the_cap_holds_among_completions_and_requests_at_once(database: Database) -> None:
    ann = sign_in(database)
    issues = [wanted(ann) for _ in range(MAX_OPEN)]
    issue_all(database, *issues)
    intakes = [Intake(database, max_open=MAX_OPEN) for _ in range(3)]
    calls: list[Callable[[], object]] = [
        partial(intakes[number % 3].accept, asking(issue)) for number, issue in enumerate(issues)
    ]
    calls += [partial(intakes[number % 3].issue, wanted(ann)) for number in range(6)]
    at_once(calls)
    assert {state_of(database, issue.action_id) for issue in issues} == {State.ACCEPTED}
    assert open_actions(database, ann.user_id) <= MAX_OPEN


def test_only_what_is_accepted_brings_something(database: Database) -> None:
    ann, bob = sign_in(database), sign_in(database)
    good, expired, forged, gone = wanted(ann), wanted(ann, ttl_s=0), wanted(ann), wanted(bob)
    issue_all(database, good, expired, forged, gone)
    with database.write() as connection:
        end = sa.text("UPDATE sessions SET revoked_at = now() WHERE id = :session")
        connection.execute(end, {"session": bob.session_id})
    gathered = Intake(database, max_open=100)
    bodies = [asking(good), asking(expired), replace(asking(forged), token_hash=b"?" * 32), asking(gone)]
    taken = at_once([partial(gathered.accept, body) for body in bodies])
    assert [isinstance(each, Taken) and each.is_fresh for each in taken] == [True, False, False, False]
    assert isinstance(taken[3], CallerChanged)
    with database.read() as connection:
        found = actions.get_actions(connection, [body.next_id for body in bodies])
    assert [each.id for each in found] == [bodies[0].next_id]


@pytest.mark.parametrize("processes", [1, 3])
def test_fifty_of_one_body_at_once_are_one_acceptance_and_one_next_action(database: Database, processes: int) -> None:
    issue = wanted(sign_in(database))
    issue_all(database, issue)
    intakes = [Intake(database, max_open=MAX_OPEN) for _ in range(processes)]
    body = asking(issue)
    taken = at_once([partial(intakes[number % processes].accept, body) for number in range(50)])
    fresh = [each for each in taken if isinstance(each, Taken) and each.is_fresh]
    assert len(fresh) == 1
    following = stored(database, body.next_id)
    for each in taken:
        assert isinstance(each, Taken)
        assert each is fresh[0] or each.following == following
    assert open_actions(database, issue.user_id) == 1


def test_of_those_issued_afterwards_at_once_one_counts_and_the_others_see_it(database: Database) -> None:
    issue = wanted(sign_in(database))
    issue_all(database, issue)
    intakes = [Intake(database, max_open=MAX_OPEN) for _ in range(2)]
    body = asking(issue)
    assert body.following is not None
    intakes[0].accept(replace(body, following=None))
    answers = at_once([partial(intakes[number % 2].issue, body.following) for number in range(20)])
    assert sum(isinstance(each, Issued) for each in answers) == 1
    others = [each for each in answers if not isinstance(each, Issued)]
    assert all(isinstance(each, AlreadyIssued) and each.action.id == body.next_id for each in others), others


def test_a_repeat_after_a_lost_reply_finds_both(database: Database) -> None:
    issue = wanted(sign_in(database))
    issue_all(database, issue)
    body = asking(issue)
    with pytest.raises(OperationalError):
        Intake(MuteDatabase(database.primary), max_open=MAX_OPEN).accept(body)
    taken = Intake(database, max_open=MAX_OPEN).accept(body)
    assert not taken.is_fresh
    assert taken.stored is not None
    assert taken.stored.state is State.ACCEPTED
    assert taken.following == stored(database, body.next_id)


def test_what_postgres_cannot_issue_does_not_harm_the_completion_or_its_neighbours(database: Database) -> None:
    ann = sign_in(database)
    issues = [wanted(ann) for _ in range(3)]
    issue_all(database, *issues)
    gathered = Intake(database, max_open=100)
    bodies = [asking(issues[0]), asking(issues[1], metadata={"text": "\0"}), asking(issues[2])]
    taken = at_once([partial(gathered.accept, body) for body in bodies])
    assert all(isinstance(each, Taken) and each.is_fresh for each in taken), taken
    following = [each.following if isinstance(each, Taken) else None for each in taken]
    assert isinstance(following[1], Exception)
    assert isinstance(following[0], Issued)
    assert isinstance(following[2], Issued)


@contextmanager
def locked_slots(database: Database, user_id: UUID) -> Iterator[None]:
    """Hold the lock of this player's open actions, as a frozen process would."""
    with database.write() as connection:
        lock = sa.text("SELECT pg_advisory_xact_lock(:key)")
        connection.execute(lock, {"key": intake._lock_key(user_id)})
        yield


def test_a_player_whose_slots_are_locked_is_accepted_without_what_comes_next(
    database: Database, database_url: str
) -> None:
    issue = wanted(sign_in(database))
    issue_all(database, issue)
    impatient = Database(make_engine(database_url, 2, name="t", lock_timeout_s=0.2))
    try:
        with locked_slots(database, issue.user_id):
            taken = Intake(impatient, max_open=MAX_OPEN).accept(asking(issue))
    finally:
        impatient.dispose()
    assert taken.is_fresh
    assert isinstance(taken.following, OperationalError)
    assert state_of(database, issue.action_id) is State.ACCEPTED


@given(st.integers(-(2**60), 2**60), st.uuids())
def test_the_next_id_is_a_uuid_of_version_7_near_the_end_of_the_play(time_ms: int, anything: UUID) -> None:
    action_id = uuid7()
    following = next_action_id(action_id, time_ms)
    assert (following.version, following.variant) == (7, action_id.variant)
    assert following == next_action_id(action_id, time_ms)
    assert (following.int >> 80) - (action_id.int >> 80) == min(max(0, time_ms), 300_000)
    assert following != next_action_id(uuid4(), time_ms)
    # Whatever comes in, an id comes out.
    assert next_action_id(anything, time_ms).version == 7
