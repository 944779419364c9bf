"""The table keeps the measurements, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.report import BEGIN, END, Row, Table
from tests.faults.trial import open_trial


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\n\n{END}\n\nafter\n", encoding="utf-8")
    return page


def row(scenario: str, times: int = 1) -> Row:
    return Row(scenario, "this", times, 1_234, 0, 0, 0, 2.34, "that")


def scenarios(page: Path) -> list[str]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")][1:]


def test_a_row_replaces_its_own_and_no_other(page: Path) -> None:
    table = Table(page)
    table.enter(row("one"))
    table.enter(row("two"))
    Table(page).enter(row("one", times=7))
    assert scenarios(page) == ["one", "two"]
    text = page.read_text(encoding="utf-8")
    assert "| one | this | 7 | 1,234 | 0 | 0 | 0 | 2.3 | that |" in text
    assert text.startswith("# Before\n")
    assert text.endswith("\n\nafter\n")


def test_only_a_whole_run_forgets_what_it_did_not_play(page: Path) -> None:
    Table(page).enter(row("gone"))
    table = Table(page)
    table.enter(row("two"))
    table.enter(row("one"))
    assert scenarios(page) == ["gone", "two", "one"]
    table.keep_only_written()
    assert scenarios(page) == ["two", "one"]


def test_a_scenario_that_fails_loses_its_row(page: Path) -> None:
    table = Table(page)
    table.enter(row("one"))
    table.enter(row("two"))
    with pytest.raises(AssertionError, match="nothing was done"), open_trial(table, "one", "this", "that"):
        pass
    assert scenarios(page) == ["two"]


def test_an_interrupted_run_changes_no_row(page: Path) -> None:
    table = Table(page)
    table.enter(row("one"))
    with pytest.raises(KeyboardInterrupt), open_trial(table, "one", "this", "that"):
        raise KeyboardInterrupt
    assert scenarios(page) == ["one"]
