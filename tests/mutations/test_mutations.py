"""The mutation check itself: its texts are there, it sees what is noticed and what isn't. ``make mutations`` is all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from config import ROOT
from tests.mutations.__main__ import run
from tests.mutations.safeguards import MUTATIONS, Edit, Mutation
from tests.mutations.workshop import Outcome, StaleMutationError, Workshop, check_edits, open_workshop

ORDER = "scoreboard/domain/standings.py"
# A test of its own, beside the others: it needs none of their servers.
TINY = "test_tiny.py"
TINY_TEST = "from scoreboard.domain.standings import TOP_SIZE\ndef test_tiny():\n    assert TOP_SIZE >= 10\n"


def tiny(new: str, old: str = "TOP_SIZE = 10\n") -> Mutation:
    return Mutation("a mutation", "something", (Edit(ORDER, old, new),), (TINY,))


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    with open_workshop() as workshop:
        (workshop.folder / TINY).write_text(TINY_TEST, encoding="utf-8")
        yield workshop


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_is_to_be_taken_out_is_there(mutation: Mutation) -> None:
    check_edits(mutation)


@pytest.mark.parametrize("old", ["no such text", "Standing"])
def test_a_text_that_is_not_there_once_stops_the_check(workshop: Workshop, old: str) -> None:
    with pytest.raises(StaleMutationError):
        workshop.judge(tiny("x", old))


def test_it_tells_noticed_from_unnoticed_and_from_proving_nothing(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    noticed, unnoticed, senseless = (tiny(f"TOP_SIZE = {new}\n") for new in ("9", "11", "("))
    assert not run(workshop, [noticed, unnoticed, senseless])
    rows = [line.split(" | ")[1:3] for line in capsys.readouterr().out.splitlines() if "something" in line]
    assert rows == [["caught", "test_tiny"], ["SURVIVED", "–"], ["BROKEN", "–"]]
    assert (workshop.folder / ORDER).read_text() == (ROOT / ORDER).read_text(), "it was put back"


def test_the_tree_as_it_is_must_be_sound(workshop: Workshop) -> None:
    assert not run(workshop, [replace(tiny("TOP_SIZE = 9\n"), tests=("no_such_test.py",))])


@pytest.mark.timeout(240)
def test_a_safeguard_taken_out_is_noticed(workshop: Workshop) -> None:
    """One of them, on real servers."""
    (mutation,) = (each for each in MUTATIONS if each.name == "standing-version")
    verdict = workshop.judge(mutation)
    assert verdict.outcome is Outcome.CAUGHT, verdict.output
