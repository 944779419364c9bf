"""``python -m benchmarks.boards``: what boards of many players cost in Redis, to seed and to refill.

Calls are timed on boards of every size in turn, in one server; seeding and the rebuild run on the largest size that is
at most a million, with the whole service. README.md says how to read what comes out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.board_calls import ROUNDS, CallCost, Filled, measure_calls
from benchmarks.board_rebuild import Rebuilt, SeedTime, measure_rebuild, measure_seed
from benchmarks.report import Goal, machine
from config import ROOT
from scoreboard.local import LocalServers
from tests.service import open_folder, running_service

SIZES = (10_000, 1_000_000, 5_000_000)
# What the project wants to reach.
MOST_TIMES_SMALL = 1.3
MOST_REBUILD_S = 15.0
MOST_SEED_S = 120.0
# The largest board that is also made in PostgreSQL.
_MOST_SEEDED = 1_000_000
# The limits stay on, out of the way of one machine that plays everybody.
_SETTINGS = {"WEB_CONCURRENCY": "2", "RATE_LIMIT_READ": "1000000/minute", "RATE_LIMIT_ANONYMOUS": "10000000/hour"}


@dataclass(frozen=True, slots=True)
class BoardRun:
    """All that was measured."""

    filled: list[Filled]
    calls: list[CallCost]
    seeded: SeedTime
    rebuilt: Rebuilt

    @property
    def is_right(self) -> bool:
        return self.rebuilt.problem is None and not self.rebuilt.read_errors

    def as_json(self) -> dict[str, Any]:
        return {
            "measuredAt": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "isRight": self.is_right,
            **asdict(self),
            "goals": [{**asdict(goal), "isMet": goal.is_met} for goal in goals(self)],
        }


def run(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> BoardRun:
    """Measure boards of these sizes on servers of their own; some four minutes with the default sizes."""
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        local = closing.enter_context(LocalServers(folder / "calls", with_postgres=False))
        click.echo("Filling boards and calling them …", err=True)
        filled, calls = measure_calls(local.redis_url, sorted(sizes), rounds)
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        local = closing.enter_context(LocalServers(folder / "servers", with_valkey=False))
        service = closing.enter_context(running_service(local, **_SETTINGS))
        players = max((size for size in sizes if size <= _MOST_SEEDED), default=_MOST_SEEDED)
        click.echo(f"Seeding {players:,} players …", err=True)
        seeded = measure_seed(service, players, folder / "tokens.tsv")
        click.echo("Refilling the board while serving …", err=True)
        rebuilt = measure_rebuild(service, players)
    return BoardRun(filled, calls, seeded, rebuilt)


def goals(found: BoardRun) -> list[Goal]:
    """A call on a big board against the same on the smallest, by the processor time of both ends."""
    smallest = min(cost.players for cost in found.calls)
    small = {cost.call: cost for cost in found.calls if cost.players == smallest}
    made = [
        Goal(
            f"{cost.call} at {cost.players:,}, times that at {smallest:,}",
            round(cost.cpu_us / small[cost.call].cpu_us, 2),
            MOST_TIMES_SMALL,
            f"by the clock {cost.wall_us / small[cost.call].wall_us:.2f}",
        )
        for cost in found.calls
        if cost.players != smallest
    ]
    made.append(Goal(f"seconds to seed {found.seeded.players:,} players", found.seeded.seconds, MOST_SEED_S))
    rebuilt = found.rebuilt
    made.append(Goal(f"seconds to refill a board of {rebuilt.players:,}", rebuilt.seconds, MOST_REBUILD_S))
    return made


def table(found: BoardRun) -> str:
    lines = [f"{'players':>10}{'filled in s':>13}{'Redis CPU s':>13}{'bytes each':>12}"]
    lines += [
        f"{fill.players:>10,}{fill.seconds:>13}{fill.redis_cpu_s:>13}{fill.bytes_per_player:>12}"
        for fill in found.filled
    ]
    lines += ["", f"{'call':<16}{'players':>10}{'µs':>10}{'client CPU':>12}{'Redis CPU':>11}"]
    lines += [
        f"{cost.call:<16}{cost.players:>10,}{cost.wall_us:>10}{cost.client_us:>12}{cost.redis_us:>11}"
        for cost in sorted(found.calls, key=lambda cost: (cost.call, cost.players))
    ]
    rebuilt = found.rebuilt
    lines += ["", f"Around a refill of {rebuilt.players:,} players, {rebuilt.seconds} s from PostgreSQL; ms:"]
    lines.append(f"{'':<34}{'p50':>8}{'p95':>8}{'max':>8}")
    for name, latency in (
        ("GET /v1/leaderboard, before", rebuilt.reads_before),
        ("GET /v1/leaderboard, meanwhile", rebuilt.reads),
        ("one standing written, before", rebuilt.writes_before),
        ("one standing written, meanwhile", rebuilt.writes),
    ):
        figures = (latency.p50, latency.p95, latency.max) if latency else ("-",) * 3
        lines.append(f"{name:<34}" + "".join(f"{figure:>8}" for figure in figures))
    return "\n".join(lines)


def report(found: BoardRun) -> None:
    """Print tables and goals."""
    click.echo(table(found))
    click.echo()
    for goal in goals(found):
        note = f"; {goal.note}" if goal.note else ""
        verdict = "reached" if goal.is_met else "MISSED "
        click.echo(f"{verdict}  {goal.what}: {goal.found:,} (at most {goal.most:,}{note})")
    if not found.is_right:
        problem = found.rebuilt.problem or f"{found.rebuilt.read_errors} reads failed during the rebuild"
        click.echo(f"WRONG    {problem}", err=True)


@click.command()
@click.option(
    "--players",
    "sizes",
    default=",".join(map(str, SIZES)),
    show_default=True,
    callback=lambda _context, _option, value: _sizes(value),
    help="Sizes, at least two.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 1_000), default=ROUNDS, show_default=True, help="Of each call on each board."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=ROOT / "build" / "bench-boards.json",
    help="Where the JSON goes.  [default: build/bench-boards.json]",
)
def main(sizes: list[int], rounds: int, output: Path) -> None:
    """Boards of many players. Exit status 1: a board was wrong after its rebuild, or a read failed."""
    found = run(sizes, rounds)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found.as_json(), indent=2) + "\n", encoding="utf-8")
    report(found)
    click.echo(f"All of it is in {output}.")
    sys.exit(0 if found.is_right else 1)


def _sizes(value: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in value.split(",")})
    except ValueError:
        raise click.BadParameter("numbers, separated by commas") from None
    # Fewer players than a settlement moves would measure something else; ten million take 2 GB.
    if len(sizes) < 2 or not all(200 <= size <= 10_000_000 for size in sizes):
        raise click.BadParameter("at least two sizes between 200 and 10,000,000")
    return sizes


if __name__ == "__main__":
    main()
