"""``make bench-stream``: one change per second to N open streams, measured at every client.

The clock starts when publishing begins (after the commit, where a worker hands the change to Redis) and stops when a
client has read the last byte of the event that shows it. README.md says how to read what comes out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
from tqdm import tqdm

from benchmarks import report
from benchmarks.api_load import Answers, ApiLoad
from benchmarks.crowd import Collected, Crowd
from benchmarks.report import Latency, Run
from benchmarks.servers import (
    Change,
    Floor,
    Ours,
    Rotation,
    Server,
    made_up_players,
    running_floor,
    running_stock,
)
from benchmarks.usage import CpuMeter, Memory, memory_of, wait_until_idle
from config import ROOT
from scoreboard.live.stream.events import Position
from scoreboard.live.stream.frames import frame
from scoreboard.local import LocalServers
from tests.service import open_folder, running_service

_INTERVAL_S = 1.0
# Changes before the clock counts: the first ones find cold code and caches.
_WARM_UP = 2
# What stock flask-sse can bear on two cores; each browser costs it a connection to Redis.
_STOCK_MOST = 1_000
# Streams opened and closed before memory is looked at, so that what a process loads once is not put down to clients.
_WARM_UP_STREAMS = 50
_WARM_UP_READS_S = 1.0
# The limits stay on, out of the way of one machine that plays everybody.
_SETTINGS = {
    "WEB_CONCURRENCY": "2",
    "BROADCAST_INTERVAL_MS": "0",
    "RATE_LIMIT_STREAM": "1000000/minute",
    "RATE_LIMIT_STREAM_USER": "1000000/minute",
    "RATE_LIMIT_READ": "1000000/minute",
    "RATE_LIMIT_READ_USER": "1000000/minute",
    "RATE_LIMIT_ANONYMOUS": "10000000/hour",
    "MAX_STREAMS_PER_IP": "100000",
}


@dataclass
class Bench:
    """One run of the benchmark: what it is asked to do and what it has found."""

    seconds: int
    local: LocalServers
    runs: list[Run] = field(default_factory=list)

    def measure_ours(self, ours: Ours, count: int, *, with_api: bool) -> None:
        """The service with freshly started web processes, first alone, then with the API load."""
        if self.runs:
            # What an earlier crowd left behind in memory would be used again unseen.
            ours.service.stop_web()
            ours.service.start_web()
        warm_up(ours)
        self._measure(ours, count, ours.service.servers.valkey.pid, ours if with_api else None)

    def measure_floor(self, count: int, ours: Ours | None) -> None:
        """The bare loop; the API load, if any, is on the service that idles beside it."""
        with running_floor(self.local.redis_url) as floor:
            self._measure(floor, count, self.local.valkey.pid, ours)

    def measure_stock(self, count: int) -> None:
        with running_stock(self.local.redis_url) as stock:
            self._measure(stock, count, self.local.valkey.pid, None)

    def _measure(self, server: Server, count: int, redis_pid: int, api: Ours | None) -> None:
        processes = server.processes()
        before = memory_of(processes)
        with Crowd() as crowd:
            open_streams(crowd, server, count)
            wait_until_idle(processes)
            after = memory_of(processes)
            groups = {
                "server": processes,
                "load client": [crowd.process],
                "redis": [psutil.Process(redis_pid)],
                "publisher": [psutil.Process()],
            }
            crowd.collect([change.version for change in publish(server, _WARM_UP)])
            self._record(server, count, crowd, groups, (before, after), None)
            if api is not None:
                with ApiLoad(api.port) as load:
                    if api is not server:
                        groups["idle service"] = api.processes()
                    groups["API client"] = [load.process]
                    self._record(server, count, crowd, groups, (before, after), load)
        # Hanging up is work for the server, which must not show in what is measured next.
        wait_until_idle(processes)

    def _record(
        self,
        server: Server,
        count: int,
        crowd: Crowd,
        groups: dict[str, list[psutil.Process]],
        memory: tuple[Memory, Memory],
        load: ApiLoad | None,
    ) -> None:
        meter, started_at = CpuMeter(groups), time.monotonic()
        if load:
            load.start()
        changes = publish(server, self.seconds)
        collected = crowd.collect([change.version for change in changes])
        answers = load.stop() if load else Answers()
        seconds, cpu_s = time.monotonic() - started_at, meter.read()
        delays = delays_ms(changes, collected)
        each_p95 = [latency.p95 for values in delays if (latency := Latency.of(values))]
        run = Run(
            server=server.name,
            clients=count,
            with_api=load is not None,
            seconds=round(seconds, 1),
            changes=len(changes),
            latency=Latency.of(value for values in delays for value in values),
            p95_of_changes=each_p95,
            p95_of_middle_change=sorted(each_p95)[len(each_p95) // 2] if each_p95 else None,
            missed=sum(count - len(values) for values in delays),
            backwards=collected.backwards,
            closed=collected.closed,
            problem=collected.problem,
            cpu_s=cpu_s,
            uss_before=memory[0].uss,
            uss_with_clients=memory[1].uss,
            rss_before=memory[0].rss,
            rss_with_clients=memory[1].rss,
            api=Latency.of(answers.latencies_ms),
            api_requests=len(answers.latencies_ms),
            api_errors=answers.errors,
        )
        self.runs.append(run)
        click.echo(report.row(run))


def warm_up(ours: Ours) -> None:
    """Let the processes load what they load once."""
    with Crowd() as crowd, ApiLoad(ours.port) as load:
        crowd.open(ours.address, _WARM_UP_STREAMS, lambda _: None)
        crowd.collect([change.version for change in publish(ours, _WARM_UP)])
        load.start()
        time.sleep(_WARM_UP_READS_S)
        load.stop()
    wait_until_idle(ours.processes())


def open_streams(crowd: Crowd, server: Server, count: int) -> None:
    """Open them with a line of progress, and be sure that the next change is due to each."""
    with tqdm(total=count, desc=f"{server.name}: opening", unit=" streams", leave=False, disable=None) as progress:
        crowd.open(server.address, count, lambda opened: progress.update(opened - progress.n))
    server.wait_for_streams(count)


def publish(server: Server, count: int) -> list[Change]:
    """So many changes at an even rhythm."""
    started_at = time.monotonic()
    changes = []
    for number in range(count):
        time.sleep(max(0.0, started_at + number * _INTERVAL_S - time.monotonic()))
        changes.append(server.change())
    # The last one has its second too, as the others had.
    time.sleep(max(0.0, started_at + count * _INTERVAL_S - time.monotonic()))
    return changes


def delays_ms(changes: Sequence[Change], collected: Collected) -> list[list[float]]:
    """For each change, each client's delay."""
    return [
        [(arrived - change.at) / 1e6 for arrived in collected.arrivals.get(change.version, ())] for change in changes
    ]


@contextmanager
def started(names: Sequence[str], seconds: int) -> Iterator[tuple[Bench, Ours | None]]:
    """The servers that all need, and the service unless only others are asked for."""
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        local = closing.enter_context(LocalServers(folder))
        ours = None
        if "ours" in names:
            click.echo("Starting the service …", err=True)
            ours = Ours(closing.enter_context(running_service(local, **_SETTINGS)))
        yield Bench(seconds, local), ours


def run_all(names: Sequence[str], sizes: Sequence[int], seconds: int) -> list[Run]:
    """Every server with every crowd; the API load runs beside the largest."""
    with started(names, seconds) as (bench, ours):
        click.echo(report.header())
        for count in sizes:
            is_largest = count == max(sizes)
            if ours is not None:
                bench.measure_ours(ours, count, with_api=is_largest)
            if "floor" in names:
                bench.measure_floor(count, ours if is_largest else None)
        if "stock" in names:
            bench.measure_stock(max((each for each in sizes if each <= _STOCK_MOST), default=_STOCK_MOST))
        return bench.runs


def event_bytes() -> int:
    """The size of one event as a browser gets it."""
    rotation = Rotation(made_up_players())
    payload = rotation.payload(rotation.turn(), time.time_ns() // 1000)
    return len(frame("leaderboard:update", payload, Position(time.time_ns() // 1_000_000, 1_000)))


def _sizes(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    try:
        sizes = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter("numbers, separated by commas") from None
    if not all(1 <= size <= 19_000 for size in sizes):
        raise click.BadParameter("between 1 and 19,000 clients: one process opens them all")
    return sorted(set(sizes))


@click.command()
@click.option("--clients", "sizes", default="100,1000,10000", show_default=True, callback=_sizes, help="Crowds.")
@click.option(
    "--seconds", type=click.IntRange(1, 600), default=20, show_default=True, help="Changes, one a second, per run."
)
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice(["ours", "floor", "stock"]),
    default=["ours", "floor", "stock"],
    help="Leave the others out; may be repeated.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=ROOT / "build" / "bench-stream.json",
    help="Where the JSON goes.  [default: build/bench-stream.json]",
)
def main(sizes: list[int], seconds: int, names: Sequence[str], output: Path) -> None:
    """Fan-out of one change per second to crowds of EventSource clients. Exit status 1: somebody missed a version."""
    size = event_bytes()
    click.echo(f"One event of {size:,} bytes a second to every client, {psutil.cpu_count()} cores for all of it.")
    runs = run_all(names, sizes, seconds)
    found = report.goals(runs, Ours.name, Floor.name)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report.as_json(runs, found, size), indent=2) + "\n", encoding="utf-8")
    for goal in found:
        note = f"; {goal.note}" if goal.note else ""
        verdict = "reached" if goal.is_met else "MISSED "
        click.echo(f"{verdict}  {goal.what}: {goal.found:,} (at most {goal.most:,}{note})")
    for run in runs:
        if not run.is_whole:
            click.echo(
                f"{run.server}, {run.clients:,} clients: {run.missed} missed, {run.backwards} backwards, "
                f"{run.closed} closed {run.problem or ''}",
                err=True,
            )
    if any(run.is_disturbed for run in runs):
        click.echo("!  others used the machine meanwhile; run it again when it is quiet", err=True)
    click.echo(f"All of it is in {output}.")
    sys.exit(0 if all(run.is_whole for run in runs) else 1)


if __name__ == "__main__":
    main()
