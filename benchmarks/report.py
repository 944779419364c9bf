"""The measurements, as a table for people and as JSON for machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

# What the project wants to reach.
MOST_TIMES_FLOOR = 1.2
MOST_API_P95_MS = 100.0
MOST_BYTES_PER_CLIENT = 20_480
# More of the machine than this in other hands, and the figures are those of a busy machine.
NOISE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Latency | None:
        """None when there are no values; percentiles by nearest rank."""
        ordered = sorted(values)
        if not ordered:
            return None
        ranks = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.50, 0.95, 0.99)]
        p50, p95, p99 = (round(value, 1) for value in ranks)
        return cls(p50, p95, p99, round(ordered[-1], 1))


@dataclass(frozen=True, slots=True)
class Run:
    """One server with one crowd, either alone or with the API load beside it."""

    server: str
    clients: int
    with_api: bool
    seconds: float
    changes: int
    latency: Latency | None
    # The p95 of each change by itself, and the middle one of these: what to compare when something else used the
    # machine for some of the seconds.
    p95_of_changes: list[float]
    p95_of_middle_change: float | None
    missed: int
    backwards: int
    closed: int
    problem: str | None
    cpu_s: dict[str, float]
    # Of the server's processes together, in bytes: before the crowd came, and with all of it idle.
    uss_before: int
    uss_with_clients: int
    rss_before: int
    rss_with_clients: int
    api: Latency | None
    api_requests: int
    api_errors: int

    @property
    def uss_per_client(self) -> int:
        return (self.uss_with_clients - self.uss_before) // self.clients

    @property
    def is_whole(self) -> bool:
        return not (self.missed or self.backwards or self.closed or self.problem)

    @property
    def is_disturbed(self) -> bool:
        return self.cpu_s["other"] > NOISE_SHARE * self.seconds * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach and what was found."""

    what: str
    found: float
    most: float
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.found <= self.most


_COLUMNS = (
    ("server", 10),
    ("clients", 8),
    ("API", 4),
    ("p50", 7),
    ("p95", 7),
    ("p99", 7),
    ("max", 7),
    ("mid95", 7),
    ("missed", 7),
    ("server", 8),
    ("client", 8),
    ("redis", 7),
    ("other", 7),
    ("KB each", 8),
    ("API p95", 8),
)


def header() -> str:
    groups = " " * 24 + f"{'latency in ms':^35}" + " " * 7 + f"{'CPU seconds':^30}"
    return groups.rstrip() + "\n" + _row([name for name, _ in _COLUMNS])


def row(run: Run) -> str:
    latency = run.latency
    figures = [latency.p50, latency.p95, latency.p99, latency.max] if latency else ["-"] * 4
    return _row(
        [
            run.server,
            f"{run.clients:,}",
            "yes" if run.with_api else "",
            *figures,
            run.p95_of_middle_change or "-",
            run.missed,
            *(run.cpu_s.get(name, "-") for name in ("server", "load client", "redis")),
            f"{run.cpu_s['other']}{'!' if run.is_disturbed else ''}",
            round(run.uss_per_client / 1024, 1),
            run.api.p95 if run.api else "-",
        ]
    )


def _row(cells: Sequence[object]) -> str:
    first, *others = cells
    widths = [width for _, width in _COLUMNS[1:]]
    return f"{first:<10}" + "".join(f"{cell!s:>{width}}" for cell, width in zip(others, widths, strict=True))


def goals(runs: Sequence[Run], ours: str, floor: str) -> list[Goal]:
    """The project's goals as far as these runs can tell: at the largest crowd that ours was measured with."""
    most = max((run.clients for run in runs if run.server == ours), default=0)
    at_most = {(run.server, run.with_api): run for run in runs if run.clients == most}
    found = []
    for with_api, title in ((False, "alone"), (True, "with the API load beside both")):
        mine, bare = at_most.get((ours, with_api)), at_most.get((floor, with_api))
        if mine and bare and mine.latency and bare.latency:
            times = _times(mine.latency.p95, bare.latency.p95)
            note = f"by their middle changes {_times(mine.p95_of_middle_change, bare.p95_of_middle_change)}"
            what = f"p95 of {most:,} clients, times the bare loop's, {title}"
            found.append(Goal(what, times, MOST_TIMES_FLOOR, note))
    busy = at_most.get((ours, True))
    if busy and busy.api:
        found.append(
            Goal(f"API p95 in ms at 100 req/s beside {most:,} streams", busy.api.p95, MOST_API_P95_MS),
        )
    quiet = at_most.get((ours, False))
    if quiet:
        found.append(
            Goal(f"bytes per idle client with {most:,}", quiet.uss_per_client, MOST_BYTES_PER_CLIENT),
        )
    return found


def _times(mine: float | None, bare: float | None) -> float:
    # Latencies are rounded to 0.1 ms; so small a one is taken as that.
    return round((mine or 0.0) / max(bare or 0.0, 0.1), 2)


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
    }


def as_json(runs: Sequence[Run], found: Sequence[Goal], frame_bytes: int) -> dict[str, Any]:
    return {
        "measuredAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "eventBytes": frame_bytes,
        "isWhole": all(run.is_whole for run in runs),
        "runs": [{**asdict(run), "uss_per_client": run.uss_per_client} for run in runs],
        "goals": [{**asdict(goal), "isMet": goal.is_met} for goal in found],
    }
