"""The count itself: each kind of loss is found, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.faults.attempts import Log
from tests.faults.tally import KEPT, Tally, find_doubled, find_ghosts, find_lost

OUTCOME = {"status": "applied", "scoreIncrement": 1, "previousScore": 4, "newScore": 5}


@dataclass
class Action:
    id: str = "a"
    state: str = "applied"
    is_accepted: bool = True


@dataclass
class Entry:
    user_id: str = "u"
    action_id: str | None = "a"
    increment: int = 1
    previous_score: int = 4
    new_score: int = 5


def log_of(*statuses: int) -> Log:
    """One completion that got these answers; 0 is none."""
    log = Log()
    attempt = log.attempt("a", "u")
    for status in statuses:
        log.sent(attempt)
        if status:
            log.answered(attempt, status, {"data": OUTCOME})
        else:
            log.unanswered(attempt)
    return log


def tally_of(log: Log, actions: list[Action], ledger: list[Entry]) -> Tally:
    tally = Tally()
    find_lost(tally, log, {action.id: action for action in actions}, ledger, KEPT)
    find_doubled(tally, ledger)
    find_ghosts(tally, log, {action.id: action for action in actions}, ledger)
    return tally


@pytest.mark.parametrize("statuses", [(202,), (200,), (0, 202), (503, 0, 200)])
def test_what_was_acknowledged_and_is_in_the_ledger_once_is_right(statuses: tuple[int, ...]) -> None:
    tally_of(log_of(*statuses), [Action()], [Entry()]).assert_exact()


@pytest.mark.parametrize(("actions", "ledger"), [([], []), ([Action()], [Entry()])])
def test_without_an_answer_either_way_is_right(actions: list[Action], ledger: list[Entry]) -> None:
    tally_of(log_of(0), actions, ledger).assert_exact()


@pytest.mark.parametrize(
    ("actions", "ledger"),
    [
        ([], []),
        ([Action(state="accepted")], []),
        ([Action(state="failed")], []),
        ([Action()], []),
        ([Action(state="held")], [Entry()]),
        ([Action()], [Entry(increment=2)]),
        ([Action()], [Entry(previous_score=5, new_score=6)]),
    ],
)
def test_lost(actions: list[Action], ledger: list[Entry]) -> None:
    tally = tally_of(log_of(200), actions, ledger)
    assert len(tally.lost) == 1
    with pytest.raises(AssertionError, match=r"acknowledged, but lost \(1\): action a"):
        tally.assert_exact()


def test_counted_twice() -> None:
    tally = tally_of(log_of(202), [Action()], [Entry(), Entry(previous_score=5, new_score=6)])
    assert tally.doubled == ["action a: 2 ledger entries"]
    with pytest.raises(AssertionError, match="counted twice"):
        tally.assert_exact()


@pytest.mark.parametrize(
    ("log", "actions", "ledger"),
    [
        (Log(), [Action()], []),
        (Log(), [], [Entry()]),
        (log_of(202), [Action()], [Entry(), Entry(action_id=None)]),
        (log_of(400), [Action()], []),
        (log_of(0, 409), [Action()], []),
    ],
)
def test_from_nowhere(log: Log, actions: list[Action], ledger: list[Entry]) -> None:
    tally = tally_of(log, actions, ledger)
    assert len(tally.ghosts) == 1
    with pytest.raises(AssertionError, match="appeared from nowhere"):
        tally.assert_exact()


def test_an_answer_that_no_client_should_get_is_noted() -> None:
    assert [each.status for each in log_of(500, 202).surprises] == [500]
