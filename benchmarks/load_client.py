"""The load generator's process, and the driver's handle on it."""

from __future__ import annotations

import gc
import resource
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.companion import Companion
from benchmarks.flow_loops import ClosedLoop, Flows, NextLoop, OpenLoop
from benchmarks.flow_streams import Streams
from benchmarks.flow_wire import Players, WireError
from benchmarks.spread import open_spread

# A spawned interpreter imports this package and reads the tokens, on two busy cores.
_START_WAIT_S = 60.0
# Opening connections and streams, and after the time is up the last answers and events.
_AROUND_S = 120.0


@dataclass(frozen=True, slots=True)
class Closed:
    """So many connections, each beginning its next flow when the last has ended."""

    connections: int
    seconds: float

    def __str__(self) -> str:
        return f"closed loop, {self.connections} connections, {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Next(Closed):
    """The same with completions that ask for the next action: after a player's first flow, one call per flow."""

    def __str__(self) -> str:
        return f"closed loop with next, {self.connections} connections, {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Open:
    """Flows at an even rhythm over as many connections as that takes; some players and strangers watch the stream."""

    rate: float
    seconds: float
    connections: int
    followed: int
    watchers: int

    def __str__(self) -> str:
        return f"open loop, {self.rate:g} flows per second, {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Done:
    """What a loop did, what the streams saw of it, and the CPU seconds that both took."""

    flows: Flows
    # From 202 to the event at the player's own stream, in ms, and how many never came.
    event_ms: list[float]
    missed: int
    board_events: int
    cpu_s: float


class LoadClient(Companion):
    """A load generator for one server: ``start`` a loop, then ``finish`` it."""

    def __init__(self, port: int, tokens: Path, web_pids: list[int]) -> None:
        super().__init__("load generator", _serve, port, tokens, web_pids)
        self.receive(_START_WAIT_S)

    def start(self, loop: Closed | Open) -> None:
        """Return when the connections are open and the first flows begin."""
        self.send(loop)
        self.receive(_AROUND_S)
        self._seconds = loop.seconds

    def finish(self) -> Done:
        """Raises CompanionError, also when a single answer was not as it should be."""
        done: Done = self.receive(self._seconds + _AROUND_S)
        return done


def _serve(pipe: Connection, port: int, tokens: Path, web_pids: list[int]) -> None:
    """The load generator's process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Nothing here is cyclic; a collection amid a run would show as latency.
    gc.disable()
    try:
        players = Players.read(port, tokens)
        pipe.send(True)
        while True:
            pipe.send(_answer(pipe, players, port, web_pids))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _answer(pipe: Connection, players: Players, port: int, web_pids: list[int]) -> Done | str:
    asked = pipe.recv()
    try:
        if isinstance(asked, Closed):
            return _run_closed(pipe, asked, players, port, web_pids)
        return _run_open(pipe, asked, players, port, web_pids)
    except (WireError, OSError, TimeoutError) as error:
        return str(error) or repr(error)


def _run_closed(pipe: Connection, asked: Closed, players: Players, port: int, web_pids: list[int]) -> Done:
    kind = NextLoop if isinstance(asked, Next) else ClosedLoop
    loop = kind(open_spread(port, asked.connections, web_pids), players)
    try:
        pipe.send(True)
        began_s = time.process_time()
        flows = loop.run(asked.seconds)
        return Done(flows, [], 0, 0, time.process_time() - began_s)
    finally:
        loop.close()


def _run_open(pipe: Connection, asked: Open, players: Players, port: int, web_pids: list[int]) -> Done:
    streams = Streams(port, players.all[:: max(1, len(players.all) // asked.followed)][: asked.followed])
    loop = OpenLoop(open_spread(port, asked.connections, web_pids), players, streams.note_accepted)
    try:
        streams.open(asked.watchers, loop)
        pipe.send(True)
        began_s = time.process_time()
        flows = loop.run(asked.rate, asked.seconds)
        streams.wait_for_last(loop)
        return Done(flows, streams.delays_ms(), streams.missed, streams.board_events, time.process_time() - began_s)
    finally:
        streams.close()
        loop.close()
