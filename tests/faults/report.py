"""The table in docs/reliability.md, written by the long run and by nothing else."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: written by make test-faults -->", "<!-- end of table -->"
HEAD = (
    "| scenario | what is done | times | acknowledged | lost | counted twice | from nowhere "
    "| well again after, s | meanwhile | measured |"
)
RULE = "|---|---|---|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """One scenario that passed."""

    scenario: str
    done: str
    times: int
    acknowledged: int
    lost: int
    doubled: int
    ghosts: int
    well_after_s: float
    meanwhile: str

    def line(self) -> str:
        measured = f"{datetime.now(UTC):%Y-%m-%d %H:%M}, {os.cpu_count()} cores"
        counts = (self.times, self.acknowledged, self.lost, self.doubled, self.ghosts)
        cells = (self.scenario, self.done, *(f"{count:,}" for count in counts), f"{self.well_after_s:.1f}")
        return f"| {' | '.join((*cells, self.meanwhile, measured))} |"


class Table:
    """The rows on the page, by scenario.

    A scenario that passes replaces its own row at once, one that fails loses it: so an
    interrupted run, or one of a few scenarios, leaves the other rows as they were, each
    with the moment at which it was measured. Only a whole run that passed forgets rows
    of scenarios that are no more, and puts the rest in its own order.
    """

    def __init__(self, page: Path = PAGE) -> None:
        self._page = page
        self._written: list[str] = []

    def enter(self, row: Row) -> None:
        self._written.append(row.scenario)
        with self._changing() as rows:
            rows[row.scenario] = row.line()

    def strike(self, scenario: str) -> None:
        with self._changing() as rows:
            rows.pop(scenario, None)

    def keep_only_written(self) -> None:
        """After a whole run: what it did not play does not exist any more."""
        with self._changing() as rows:
            kept = {scenario: rows[scenario] for scenario in self._written}
            rows.clear()
            rows.update(kept)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """The rows, to be changed; another run that writes at the same time waits its turn."""
        # The folder, as the page itself is replaced by another file.
        folder = os.open(self._page.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            rows = self._read()
            yield rows
            self._write(rows)
        finally:
            os.close(folder)

    def _read(self) -> dict[str, str]:
        between = self._split()[1]
        lines = [line for line in between.splitlines() if line.startswith("| ")]
        return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line != HEAD}

    def _write(self, rows: dict[str, str]) -> None:
        before, _, after = self._split()
        table = "\n".join((HEAD, RULE, *rows.values()))
        new = self._page.with_suffix(".new")
        new.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
        # In one step: a run that is cut off here leaves the old page.
        new.replace(self._page)

    def _split(self) -> tuple[str, str, str]:
        text = self._page.read_text(encoding="utf-8")
        found = re.fullmatch(rf"(.*?){re.escape(BEGIN)}(.*){re.escape(END)}(.*)", text, re.DOTALL)
        assert found, f"{self._page} has lost its markers"
        return found[1], found[2], found[3]
