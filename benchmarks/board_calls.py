"""What one call on a board in Redis costs, on boards of several sizes that lie in one server side by side."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from statistics import median
from typing import Any
from uuid import UUID

import redis

from scoreboard.domain.standings import TOP_SIZE, RawStanding, Standing, from_microseconds, microseconds
from scoreboard.live.connection import make_client
from scoreboard.live.standings import FILL_BATCH, Standings

# Players who are looked up and moved: enough that on a big board hardly any is in the processor's caches.
_SAMPLE = 10_000
#: Of blocks of calls, on every board in turn.
ROUNDS = 30
_CALLS_PER_ROUND = 40
# Actions of different players in one settlement under load.
_SETTLED_AT_ONCE = 200
_PAGE = 100
_PLAYERS_PER_SCORE = 4
# A batch at the end of a big board waits for nobody else here.
_TIMEOUT_S = 10.0
_CPU_FIELDS = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")


@dataclass(frozen=True, slots=True)
class Filled:
    """A board of made-up players, filled as a rebuild does."""

    players: int
    seconds: float
    redis_cpu_s: float
    bytes_per_player: float


@dataclass(frozen=True, slots=True)
class CallCost:
    """The middle block's microseconds per call: on the clock, of the calling processor, of Redis' processor."""

    call: str
    players: int
    wall_us: float
    client_us: float
    redis_us: float

    @property
    def cpu_us(self) -> float:
        return self.client_us + self.redis_us


class BigBoard:
    """A whole board of its own key, and some of its players."""

    def __init__(self, client: redis.Redis, players: int) -> None:
        self.players = players
        self.standings = Standings(client, board=f"bench-{players}")
        self._random = random.Random(players)
        self._sample: list[Standing] = []
        self.filled = self._fill(client)

    def _fill(self, client: redis.Redis) -> Filled:
        memory, cpu, seconds = _memory(client), _redis_cpu_s(client), 0.0
        sampled = set(self._random.sample(range(self.players), min(_SAMPLE, self.players)))
        self.standings.begin_rebuild("bench")
        rows = enumerate(self._rows())
        while batch := list(islice(rows, FILL_BATCH)):
            started_at = time.perf_counter()
            self.standings.fill([row for _, row in batch], "bench")
            seconds += time.perf_counter() - started_at
            self._sample += [_standing(row) for number, row in batch if number in sampled]
        self.standings.finish_rebuild("bench")
        self._random.shuffle(self._sample)
        taken = (_memory(client) - memory) / self.players
        return Filled(self.players, round(seconds, 2), round(_redis_cpu_s(client) - cpu, 2), round(taken, 1))

    def _rows(self) -> Iterator[RawStanding]:
        """From the board's end upwards, some players with the same score."""
        now = microseconds(datetime.now(UTC))
        for number in range(self.players):
            user_id = self._random.randbytes(16)
            yield user_id, 1, number // _PLAYERS_PER_SCORE, now - number, True, f"player-abcdef-{number:06d}"

    def some_player(self) -> UUID:
        return self._random.choice(self._sample).user_id

    def moved(self, count: int) -> list[Standing]:
        """New standings of different players, as if each had just won something."""
        now = datetime.now(UTC)
        numbers = self._random.sample(range(len(self._sample)), min(count, len(self._sample)))
        for number in numbers:
            old = self._sample[number]
            gained = self._random.randrange(1, 1 + self.players // 10)
            self._sample[number] = replace(old, score=old.score + gained, reached_at=now, version=old.version + 1)
        return [self._sample[number] for number in numbers]


Call = Callable[[], object]


def _calls(board: BigBoard) -> dict[str, Callable[[], Call]]:
    """Each call by name: what prepares it, and gives what is timed."""
    standings, deep = board.standings, min(board.players * 9 // 10, board.players - _PAGE)

    def own_rank() -> Call:
        player = board.some_player()
        return lambda: standings.read_around(player, radius=0)

    def around() -> Call:
        player = board.some_player()
        return lambda: standings.read_around(player, radius=5)

    def settle(count: int) -> Callable[[], Call]:
        def prepare() -> Call:
            moved = board.moved(count)
            return lambda: standings.apply(moved)

        return prepare

    return {
        "top": lambda: lambda: standings.read(offset=0, limit=TOP_SIZE),
        "page far down": lambda: lambda: standings.read(offset=deep, limit=_PAGE),
        "own rank": own_rank,
        "around me": around,
        "settle 1": settle(1),
        f"settle {_SETTLED_AT_ONCE}": settle(_SETTLED_AT_ONCE),
    }


def measure_calls(redis_url: str, sizes: Sequence[int], rounds: int = ROUNDS) -> tuple[list[Filled], list[CallCost]]:
    """Fill a board of each size and time every call on all of them in turn."""
    client = make_client(redis_url, timeout_s=_TIMEOUT_S)
    # Five million players are more than the embedded server's limit allows.
    client.config_set("maxmemory", 0)
    boards = [BigBoard(client, players) for players in sizes]
    blocks: dict[tuple[str, int], list[CallCost]] = {}
    for number in range(rounds + 1):
        for call in _calls(boards[0]):
            # There and back, so that none has the better place.
            for board in boards if number % 2 else reversed(boards):
                cost = _measure_block(client, board, call)
                # The first round warms up.
                if number:
                    blocks.setdefault((call, board.players), []).append(cost)
    return [board.filled for board in boards], [_middle(costs) for costs in blocks.values()]


def _measure_block(client: redis.Redis, board: BigBoard, name: str) -> CallCost:
    prepare = _calls(board)[name]
    calls = [prepare() for _ in range(_CALLS_PER_ROUND)]
    walls: list[int] = []
    redis_before, cpu_before = _redis_cpu_s(client), time.process_time_ns()
    for call in calls:
        started_at = time.perf_counter_ns()
        call()
        walls.append(time.perf_counter_ns() - started_at)
    cpu = time.process_time_ns() - cpu_before
    redis_s = _redis_cpu_s(client) - redis_before
    return CallCost(name, board.players, median(walls) / 1e3, cpu / 1e3 / len(calls), redis_s * 1e6 / len(calls))


def _middle(costs: Sequence[CallCost]) -> CallCost:
    first = costs[0]
    figures = (median(getattr(cost, name) for cost in costs) for name in ("wall_us", "client_us", "redis_us"))
    return CallCost(first.call, first.players, *(round(figure, 1) for figure in figures))


def _standing(row: RawStanding) -> Standing:
    user_id, version, score, reached, is_visible, username = row
    return Standing(UUID(bytes=bytes(user_id)), username, score, from_microseconds(reached), version, is_visible)


def _memory(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])


def _redis_cpu_s(client: redis.Redis) -> float:
    """Of the thread that runs the commands."""
    info: Any = client.info("cpu")
    return sum(float(info[name]) for name in _CPU_FIELDS)
