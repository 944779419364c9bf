"""One scenario: its action, the number of times, and the count after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.attempts import Log
from tests.faults.count import WELL_WITHIN_S, Auditor
from tests.faults.crowd import Crowd
from tests.faults.report import Row, Table
from tests.faults.tally import Tally
from tests.service import Service

# Of the service's log with a failure: the last seconds of three processes.
_LINES_SHOWN = 60


@dataclass
class Trial:
    """What a scenario's test tells of its faults and counts; its row in the table comes from here."""

    scenario: str
    done: str
    meanwhile: str
    times: int = 0
    tallies: dict[int, Tally] = field(default_factory=dict)
    well_after_s: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def hit(self, times: int = 1) -> None:
        """A fault has just ended (or a process been killed): from here on the service has to get well."""
        self.times += times
        self._since = time.monotonic()

    def count(self, service: Service, played: Crowd | Log, *, within_s: float = WELL_WITHIN_S) -> Tally:
        """Let the clients finish, wait until all is well, count everything, and fail unless it is exact.

        May be called again as the same clients go on; a crowd goes on with ``resume``.
        """
        log = played
        if isinstance(played, Crowd):
            played.pause()
            log = played.log
        assert isinstance(log, Log)
        auditor = Auditor(service)
        try:
            after_s = auditor.wait_until_well(self._since, within_s)
            tally = auditor.count(log)
            tally.well_after_s = after_s
            self.well_after_s = max(self.well_after_s, after_s)
            self.tallies[id(log)] = tally
            tally.assert_exact()
        except AssertionError as error:
            said = [line for line in service.lines if '"event":"request"' not in line]
            error.add_note("\n".join(["What the processes said last:", *said[-_LINES_SHOWN:]]))
            raise
        finally:
            auditor.close()
        return tally

    def row(self) -> Row:
        counted = self.tallies.values()
        return Row(
            self.scenario,
            self.done,
            self.times,
            sum(tally.acknowledged for tally in counted),
            sum(len(tally.lost) for tally in counted),
            sum(len(tally.doubled) for tally in counted),
            sum(len(tally.ghosts) for tally in counted),
            self.well_after_s,
            self.meanwhile,
        )


@contextmanager
def open_trial(table: Table | None, scenario: str, done: str, meanwhile: str) -> Iterator[Trial]:
    """A trial that is entered in the table when it passes, and struck from it when it fails."""
    assert "|" not in scenario + done + meanwhile, "a cell of the table"
    trial = Trial(scenario, done, meanwhile)
    try:
        yield trial
        assert trial.times, "nothing was done"
        assert trial.row().acknowledged, "nothing was counted: nothing is shown"
    except Exception:
        if table is not None:
            table.strike(scenario)
        raise
    if table is not None:
        table.enter(trial.row())
