"""``make bench``: whole flows (request, complete, settled, told) through the service, and through a naive variant.

README.md says how to read what comes out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks import batch, boards, drain, report_flows
from benchmarks.batch import BatchRun
from benchmarks.boards import BoardRun
from benchmarks.companion import CompanionError
from benchmarks.drain import Drained
from benchmarks.flow_bench import FlowBench, under_load
from benchmarks.flow_servers import running_naive, running_ours
from benchmarks.load_client import Closed, Next, Open
from benchmarks.report_flows import FlowRun, Verified
from config import ROOT
from scoreboard.local import LocalServers
from scoreboard.scheduling import calm_scheduling
from tests.service import open_folder

PARTS = ("closed", "next", "open", "naive", "drain", "batch", "boards")
# Long enough for every player to act once or more, so that what is remembered of each is.
_WARM_UP_S, _WARM_UP_SHARE = 10.0, 0.25
_WARM_UP_CONNECTIONS = 32
# Runs that only look for the best number of connections, and the naive one, take a part of the long one's time.
_SHORT_SHARE = 0.25
# At half load few flows are under way at once; this many are when something stalls for a moment.
_OPEN_CONNECTIONS = 128
# Players with a stream of their own, and strangers who watch the board meanwhile.
_FOLLOWED, _WATCHERS = 100, 50
# Accepted actions for one worker process to settle, for each of the long runs' seconds.
_DRAIN_PER_S, _DRAIN_LEAST = 300, 200


@dataclass
class Plan:
    """What is asked for, and what has been found so far."""

    connections: Sequence[int]
    seconds: float
    players: int
    parts: Sequence[str]
    runs: list[FlowRun] = field(default_factory=list)
    verified: list[Verified] = field(default_factory=list)
    drained: list[Drained] = field(default_factory=list)
    batch: BatchRun | None = None
    boards: BoardRun | None = None

    def carry_out(self) -> None:
        if {"closed", "next", "open"} & set(self.parts):
            with running_ours(self.players) as server, under_load(server) as bench:
                self._measure_ours(bench)
                self.verified.append(bench.verify())
        if "naive" in self.parts:
            with running_naive(self.players) as server, under_load(server) as bench:
                self._warm_up(bench)
                self._measure(bench, Closed(self._best(), self.seconds * _SHORT_SHARE))
                self.verified.append(bench.verify())
        if "drain" in self.parts:
            click.echo("Settling a backlog …", err=True)
            with open_folder() as folder, LocalServers(folder) as local:
                count = max(_DRAIN_LEAST, int(_DRAIN_PER_S * self.seconds))
                self.drained += drain.run(local, folder, actions=count, players=self.players)
        if "batch" in self.parts:
            click.echo("Sending batches …", err=True)
            self.batch = batch.run(seconds=self.seconds * _SHORT_SHARE, players=batch.PLAYERS)
        if "boards" in self.parts:
            self.boards = boards.run()

    def as_json(self) -> dict[str, Any]:
        found = report_flows.as_json(self.runs, self.verified, self.drained, self.players)
        more = {"batch": self.batch and self.batch.as_json(), "boards": self.boards and self.boards.as_json()}
        return {**found, **more, "isWhole": self.is_whole}

    @property
    def is_whole(self) -> bool:
        """Whether every count was right; figures are another matter."""
        return (
            all(run.is_whole for run in self.runs)
            and all(check.is_well for check in self.verified)
            and (self.batch is None or self.batch.is_whole)
            and (self.boards is None or self.boards.is_right)
        )

    def _measure_ours(self, bench: FlowBench) -> None:
        self._warm_up(bench)
        if "closed" in self.parts:
            if len(self.connections) > 1:
                for count in self.connections:
                    self._measure(bench, Closed(count, self.seconds * _SHORT_SHARE))
            self._measure(bench, Closed(self._best(), self.seconds))
        if "next" in self.parts:
            # Every player's first flow takes two calls.
            bench.measure(Next(_WARM_UP_CONNECTIONS, min(_WARM_UP_S, self.seconds * _WARM_UP_SHARE)))
            self._measure(bench, Next(self._best(), self.seconds))
        if "open" in self.parts:
            if not any(run.loop == "closed" for run in self.runs):
                self._measure(bench, Closed(self._best(), self.seconds * _SHORT_SHARE))
            best = max(run.flows_per_s for run in self.runs if run.loop == "closed")
            self._measure(bench, Open(round(best / 2, 1), self.seconds, _OPEN_CONNECTIONS, _FOLLOWED, _WATCHERS))

    def _warm_up(self, bench: FlowBench) -> None:
        bench.measure(Closed(_WARM_UP_CONNECTIONS, min(_WARM_UP_S, self.seconds * _WARM_UP_SHARE)))

    def _measure(self, bench: FlowBench, loop: Closed | Open) -> None:
        run = bench.measure(loop)
        self.runs.append(run)
        click.echo(report_flows.row(run))

    def _best(self) -> int:
        """The number of connections that brought the most; the largest when nothing has been measured."""
        closed = [run for run in self.runs if run.loop == "closed"]
        best = max(closed, key=lambda run: run.flows_per_s, default=None)
        return best.connections if best else max(self.connections)


def _numbers(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    try:
        numbers = sorted({int(part) for part in value.split(",")})
    except ValueError:
        raise click.BadParameter("numbers, separated by commas") from None
    if not all(2 <= number <= 2_000 for number in numbers):
        raise click.BadParameter("between 2 and 2,000 connections")
    return numbers


@click.command()
@click.option(
    "--connections",
    default="16,32,64,128",
    show_default=True,
    callback=_numbers,
    help="For the closed loop, each tried.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3_600),
    default=60,
    show_default=True,
    help="The long runs; those that look for the best number of connections, and the naive one, take a quarter.",
)
@click.option(
    "--players",
    type=click.IntRange(100, 1_000_000),
    default=5_000,
    show_default=True,
    help="They act in turn; with too few of them each acts so often that rules and limits step in.",
)
@click.option(
    "--only", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, help="Leave the others out; repeatable."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=ROOT / "build" / "bench.json",
    help="Where the JSON goes.  [default: build/bench.json]",
)
def main(connections: list[int], seconds: float, players: int, parts: Sequence[str], output: Path) -> None:
    """Whole flows per second, and what they cost. Exit status 1: an answer, a count or `verify` was wrong."""
    # As `scoreboard run` starts everything: servers, service and load client, ours and the naive one alike.
    calm_scheduling()
    plan = Plan(connections, seconds, players, parts)
    click.echo(f"{players:,} players in turn, {psutil.cpu_count()} cores for all of it, load generator included.")
    click.echo(report_flows.header())
    try:
        plan.carry_out()
    except CompanionError as error:
        raise click.ClickException(str(error)) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(plan.as_json(), indent=2) + "\n", encoding="utf-8")
    _show(plan)
    click.echo(f"All of it is in {output}.")
    sys.exit(0 if plan.is_whole else 1)


def _show(plan: Plan) -> None:
    if plan.runs:
        click.echo("\n" + report_flows.cost_table(plan.runs) + "\n")
    if plan.drained:
        click.echo(drain.table(plan.drained) + "\n")
    if plan.batch:
        click.echo(batch.table(plan.batch) + "\n")
    for goal in report_flows.goals(plan.runs, plan.drained):
        click.echo(report_flows.goal_line(goal))
    for verified in plan.verified:
        click.echo(f"verify, {verified.server}: " + "\n".join(verified.words[-10:]))
    for run in plan.runs:
        if not run.is_whole:
            click.echo(
                f"{run.server} {run.loop} {run.connections}: {run.completed} completed, but {run.states}; "
                f"{run.missed} events missed",
                err=True,
            )
    if plan.boards:
        boards.report(plan.boards)
    if any(run.is_disturbed for run in plan.runs):
        click.echo("!  others used the machine meanwhile; run it again when it is quiet", err=True)


if __name__ == "__main__":
    main()
