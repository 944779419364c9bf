"""What the flows took, as tables for people and as JSON for machines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.drain import Drained
from benchmarks.report import NOISE_SHARE, Latency, machine

# What the project wants to reach.
LEAST_FLOWS_PER_S, LEAST_SECONDS = 1_200.0, 60.0
LEAST_TIMES_NAIVE = 4.0
MOST_P95_MS = 100.0
LEAST_DRAINED_PER_S = 3_000
MOST_HALF_LOAD_P95_MS, MOST_SETTLED_P95_MS, MOST_EVENT_P95_MS = 30.0, 100.0, 150.0
# Growth from the first look at the backlog to the last that is only up and down: batches under way at one of the two.
_GROWTH_S = 0.25
# Kinds of processes in the order of the way that a flow takes; "celery" is the worker's parent, which reads the queue.
KINDS = ("web", "celery", "worker", "beat", "postgres", "valkey", "load", "driver", "other")


@dataclass(frozen=True)
class FlowRun:
    """One loop against one server, until the last of its actions was settled."""

    server: str
    # "closed", "next" or "open"; for an open one the rate that was asked for.
    loop: str
    rate: float | None
    connections: int
    seconds: float
    # Completions answered with 202 within the seconds, and altogether.
    in_time: int
    completed: int
    request: Latency | None
    complete: Latency | None
    # From acceptance to settlement, by the database's clock.
    settled: Latency | None
    # From the 202 to the event in the player's own stream: how many, how long, how many never came.
    events: int
    event: Latency | None
    missed: int
    board_events: int
    # Accepted and not settled, at each quarter of the seconds.
    backlog: list[int]
    # From the end of the seconds to the last settlement; None when that did not come.
    drained_s: float | None
    states: dict[str, int]
    # From the beginning to the last settlement.
    cpu_s: dict[str, float]

    @property
    def accepted_per_s(self) -> float:
        return round(self.in_time / self.seconds, 1)

    @property
    def flows_per_s(self) -> float:
        """Whole flows: all that were accepted, over the time until the last of them was settled."""
        if self.drained_s is None:
            return 0.0
        return round(self.completed / (self.seconds + self.drained_s), 1)

    @property
    def backlog_growth(self) -> int:
        return self.backlog[-1] - self.backlog[0] if self.backlog else 0

    @property
    def cpu_us(self) -> dict[str, int]:
        """What one flow took of each kind, in µs."""
        return {kind: round(seconds / max(1, self.completed) * 1e6) for kind, seconds in self.cpu_s.items()}

    @property
    def served_us(self) -> int:
        """What one flow took of all that serves it."""
        return sum(used for kind, used in self.cpu_us.items() if kind not in ("load", "driver", "other"))

    @property
    def is_whole(self) -> bool:
        """Each flow was applied and nothing else happened; each followed one was told of."""
        states = {**self.states}
        if self.loop == "next":
            # Those that the last completions brought along are still to be played.
            states.pop("issued", None)
        return self.drained_s is not None and states == {"applied": self.completed} and not self.missed

    @property
    def is_disturbed(self) -> bool:
        elapsed_s = self.seconds + (self.drained_s or 0.0)
        return self.cpu_s["other"] > NOISE_SHARE * elapsed_s * (os.cpu_count() or 1)

    def as_json(self) -> dict[str, Any]:
        derived = ("accepted_per_s", "flows_per_s", "backlog_growth", "cpu_us", "served_us", "is_whole", "is_disturbed")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


@dataclass(frozen=True)
class Verified:
    """What `scoreboard verify` said of a server after its runs."""

    server: str
    is_well: bool
    words: list[str]


@dataclass(frozen=True)
class FlowGoal:
    """A figure to reach, at least or at most, and what was found."""

    what: str
    found: float
    bound: float
    is_least: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.found >= self.bound if self.is_least else self.found <= self.bound


# -- tables ----------------------------------------------------------------------

_COLUMNS = (
    ("run", 14),
    ("conns", 6),
    ("flows/s", 9),
    ("p50", 7),
    ("p95", 7),
    ("p99", 7),
    ("max", 7),
    ("p50", 7),
    ("p95", 7),
    ("p99", 7),
    ("max", 7),
    ("settled", 9),
    ("event", 7),
    ("unsettled at ¼ ½ ¾ end", 25),
)


def header() -> str:
    groups = " " * 29 + f"{'request, ms':^28}{'complete, ms':^28}{'202 to …, p95':>16}"
    return groups + "\n" + _row([name for name, _ in _COLUMNS])


def row(run: FlowRun) -> str:
    return _row(
        [
            f"{run.server} {run.loop}",
            run.connections,
            f"{run.flows_per_s}{'' if run.is_whole else '?'}",
            *_four(run.request),
            *_four(run.complete),
            *(latency.p95 if latency else "-" for latency in (run.settled, run.event)),
            " ".join(map(str, run.backlog)),
        ]
    )


def _four(latency: Latency | None) -> list[object]:
    return [latency.p50, latency.p95, latency.p99, latency.max] if latency else ["-"] * 4


def _row(cells: Sequence[object]) -> str:
    first, *others = cells
    (_, first_width), *columns = _COLUMNS
    return f"{first:<{first_width}}" + "".join(
        f"{cell!s:>{width}}" for cell, (_, width) in zip(others, columns, strict=True)
    )


def cost_table(runs: Sequence[FlowRun]) -> str:
    """CPU time of one flow by kind of process."""
    lines = [f"{'µs of CPU per flow':<20}" + "".join(f"{kind:>10}" for kind in (*KINDS, "all"))]
    for run in runs:
        cost = run.cpu_us
        cells: list[object] = [cost.get(kind, "-") for kind in KINDS]
        cells[-1] = f"{cells[-1]}{'!' if run.is_disturbed else ''}"
        cells.append(sum(cost.values()))
        lines.append(f"{f'{run.server} {run.loop} {run.connections}':<20}" + "".join(f"{cell!s:>10}" for cell in cells))
    return "\n".join(lines)


def goal_line(goal: FlowGoal) -> str:
    verdict = "reached" if goal.is_met else "MISSED "
    note = f"; {goal.note}" if goal.note else ""
    return f"{verdict}  {goal.what}: {goal.found:,} (at {'least' if goal.is_least else 'most'} {goal.bound:,}{note})"


# -- goals -----------------------------------------------------------------------


def goals(runs: Sequence[FlowRun], drained: Sequence[Drained] = ()) -> list[FlowGoal]:
    """The project's goals as far as these runs can tell."""
    ours = [run for run in runs if run.server == "ours"]
    best = headline([run for run in ours if run.loop == "closed"])
    half = next((run for run in ours if run.loop == "open"), None)
    naive = headline([run for run in runs if run.server == "naive"])
    found = []
    if best:
        found += _full_load(best)
    if best and naive and naive.flows_per_s:
        times = round(best.flows_per_s / naive.flows_per_s, 1)
        what, note = (
            "flows per second, times the naive variant's",
            f"by CPU time {naive.served_us / max(1, best.served_us):.1f}",
        )
        found.append(FlowGoal(what, times, LEAST_TIMES_NAIVE, is_least=True, note=note))
    if half:
        found += _half_load(half)
    if drained:
        best_rate = max(drain.actions_per_s for drain in drained)
        found.append(FlowGoal("actions settled a second by one worker process", best_rate, LEAST_DRAINED_PER_S, True))
    return found


def headline(runs: Sequence[FlowRun]) -> FlowRun | None:
    """The longest run; among equals the one with the most flows per second."""
    return max(runs, key=lambda run: (run.seconds, run.flows_per_s), default=None)


def _full_load(run: FlowRun) -> list[FlowGoal]:
    where = f"at {run.connections} connections"
    note = "" if run.seconds >= LEAST_SECONDS else f"for {LEAST_SECONDS:.0f} s, these are {run.seconds:g}"
    return [
        FlowGoal(f"flows per second {where}", run.flows_per_s, LEAST_FLOWS_PER_S, is_least=True, note=note),
        *_p95s(run, where, MOST_P95_MS),
        FlowGoal(f"growth of the backlog {where}", run.backlog_growth, round(run.flows_per_s * _GROWTH_S)),
    ]


def _half_load(run: FlowRun) -> list[FlowGoal]:
    where = f"at {run.rate:,.0f} flows per second" if run.rate else ""
    found = _p95s(run, where, MOST_HALF_LOAD_P95_MS)
    if run.settled:
        found.append(FlowGoal(f"202 to settled {where}, p95 in ms", run.settled.p95, MOST_SETTLED_P95_MS))
    if run.event:
        found.append(FlowGoal(f"202 to event {where}, p95 in ms", run.event.p95, MOST_EVENT_P95_MS))
    return found


def _p95s(run: FlowRun, where: str, most: float) -> list[FlowGoal]:
    named = {"request": run.request, "complete": run.complete}
    return [FlowGoal(f"{name} {where}, p95 in ms", latency.p95, most) for name, latency in named.items() if latency]


def as_json(
    runs: Sequence[FlowRun], verified: Sequence[Verified], drained: Sequence[Drained], players: int
) -> dict[str, Any]:
    return {
        "measuredAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "players": players,
        "runs": [run.as_json() for run in runs],
        "verified": [asdict(check) for check in verified],
        "drained": [asdict(drain) for drain in drained],
        "goals": [{**asdict(goal), "isMet": goal.is_met} for goal in goals(runs, drained)],
    }
