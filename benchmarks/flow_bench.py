"""One variant under load: a loop at a time, each followed until the last of its actions is settled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import click
import psutil
from tqdm import tqdm

from benchmarks.flow_servers import FlowServer
from benchmarks.load_client import Closed, Done, LoadClient, Open
from benchmarks.report import Latency
from benchmarks.report_flows import FlowRun, Verified
from benchmarks.settled import Outcomes
from benchmarks.usage import CpuMeter, Group

# What is accepted in a minute of full load, settled at a tenth of that pace: slower is not settling.
_SETTLE_WAIT_S = 600.0
# Looks at the backlog during a run, so that growing is told from going up and down.
_LOOKS = 4


@dataclass
class FlowBench:
    """A running variant and its load generator."""

    server: FlowServer
    client: LoadClient
    outcomes: Outcomes

    def measure(self, loop: Closed | Open) -> FlowRun:
        """Raises CompanionError when an answer was not as it should be."""
        groups: dict[str, Group | list[psutil.Process]] = {
            **self.server.groups(),
            "load": [self.client.process],
            "driver": Group([psutil.Process()], only_roots=True),
        }
        meter = CpuMeter(groups)
        click.echo(f"{self.server.name}: {loop} …", err=True)
        self.client.start(loop)
        backlog = self._watch_backlog(loop.seconds)
        done = self.client.finish()
        is_settled = self._wait_until_settled()
        # The opening of connections is none of the flows' work.
        cpu_s = {**meter.read(), "load": round(done.cpu_s, 2)}
        return self._run(loop, done, backlog, is_settled, cpu_s)

    def verify(self) -> Verified:
        """What `scoreboard verify` says."""
        done = self.server.command("verify")
        return Verified(self.server.name, done.returncode == 0, (done.stdout + done.stderr).strip().splitlines())

    def _watch_backlog(self, seconds: float) -> list[int]:
        """Until the time is up, or the load generator has something to say before."""
        backlog: list[int] = []
        started_at = time.monotonic()
        with tqdm(total=_LOOKS, leave=False, disable=None) as progress:
            for part in range(1, _LOOKS + 1):
                if self.client.has_answer(started_at + seconds * part / _LOOKS - time.monotonic()):
                    break
                backlog.append(self.outcomes.backlog())
                progress.set_postfix(unsettled=backlog[-1])
                progress.update()
        return backlog

    def _wait_until_settled(self) -> bool:
        with tqdm(desc="settling", leave=False, disable=None) as progress:
            return self.outcomes.wait_until_settled(_SETTLE_WAIT_S, lambda left: progress.set_postfix(unsettled=left))

    def _run(
        self, loop: Closed | Open, done: Done, backlog: list[int], is_settled: bool, cpu_s: dict[str, float]
    ) -> FlowRun:
        flows = done.flows
        last = self.outcomes.last_settled_at(flows.started_at)
        drained_s = round(max(0.0, last - flows.started_at - loop.seconds), 2) if last and is_settled else None
        return FlowRun(
            server=self.server.name,
            loop=type(loop).__name__.lower(),
            rate=loop.rate if isinstance(loop, Open) else None,
            connections=loop.connections,
            seconds=loop.seconds,
            in_time=flows.in_time,
            completed=flows.completed,
            request=Latency.of(flows.request_ms),
            complete=Latency.of(flows.complete_ms),
            settled=self.outcomes.delay(flows.started_at, flows.ended_at),
            events=len(done.event_ms),
            event=Latency.of(done.event_ms),
            missed=done.missed,
            board_events=done.board_events,
            backlog=backlog,
            drained_s=drained_s,
            states=self.outcomes.states(flows.started_at),
            cpu_s=cpu_s,
        )


@contextmanager
def under_load(server: FlowServer) -> Iterator[FlowBench]:
    with (
        LoadClient(server.port, server.tokens, server.web_pids()) as client,
        closing(Outcomes(server.database_url)) as outcomes,
    ):
        yield FlowBench(server, client, outcomes)
