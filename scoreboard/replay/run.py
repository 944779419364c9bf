"""Run a replay from the catalogue to the comparison of the board."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from .account import Registrar
from .board import await_outcomes, compare_board, expect
from .client import Client, Json, ReplayError, number_of, run_all
from .log import ContestLog, Team
from .names import choose_usernames
from .play import Participant, ReplayedType, Stage
from .progress import ProgressBar
from .stats import CallStats

# A registration costs the service a slow password hash; more at once would only queue there.
REGISTERING = 8
# For the first call of all: a wrong address should show soon.
FIRST_RETRY_FOR_S = 5.0


@dataclass(frozen=True)
class Options:
    """How to replay: where, how fast, as which action type, with how many connections, how long to retry a call."""

    url: str
    speed: float
    action_type: str
    connections: int
    retry_for_s: float


@dataclass
class Result:
    """The result of a replay; ``differences`` is None until the board has been compared."""

    stats: CallStats = field(default_factory=CallStats)
    participants: list[Participant] = field(default_factory=list)
    points: int = 0
    played_s: float = 0.0
    differences: list[str] | None = None

    @property
    def is_match(self) -> bool:
        return self.differences == []


def replay(log: ContestLog, options: Options, result: Result) -> None:
    """Play the log and compare the board, filling ``result`` on the way so that an interrupted replay has one too.

    Raises ReplayError where the replay can't go on.
    """
    asyncio.run(_replay(log, options, result))


async def _replay(log: ContestLog, options: Options, result: Result) -> None:
    async with Client(options.url, options.connections, options.retry_for_s, result.stats) as client:
        action_type = await _find_type(client, options.action_type)
        result.points = action_type.points
        result.participants = await _register_all(client, log)
        await _play(log, options, action_type, result)
        accepted = sum(play.action_id is not None for participant in result.participants for play in participant.plays)
        with ProgressBar("outcomes", accepted) as progress:
            await await_outcomes(result.participants, progress.advance)
        reader = result.participants[0].account
        result.differences = await compare_board(reader, expect(result.participants, action_type.points))


async def _play(log: ContestLog, options: Options, action_type: ReplayedType, result: Result) -> None:
    with ProgressBar("actions", log.action_count) as progress:
        stage = Stage(action_type, options.speed, progress.advance)
        try:
            await stage.play_all(result.participants)
        finally:
            result.played_s = time.monotonic() - stage.started_at


async def _find_type(client: Client, code: str) -> ReplayedType:
    data = await client.call("GET", "/v1/actions/types", retry_for_s=FIRST_RETRY_FOR_S)
    types: list[Json] = data.get("types") or []
    found = next((entry for entry in types if entry.get("code") == code), None)
    if found is None:
        known = ", ".join(str(entry.get("code")) for entry in types) or "none"
        raise ReplayError(f"the service knows no action type {code}; it knows {known}")
    points: Json = found.get("points") or {}
    if points.get("kind") != "fixed":
        raise ReplayError(f"{code} has {points.get('kind')} points; a replay needs a type whose points are fixed")
    value = number_of(points, "value")
    return ReplayedType(code, value, number_of(found, "minTimeMs") / 1000, number_of(found, "maxTimeMs") / 1000)


async def _register_all(client: Client, log: ContestLog) -> list[Participant]:
    names = choose_usernames(log.players)
    registrar = Registrar(client)
    slots = asyncio.Semaphore(REGISTERING)
    participants: dict[str, Participant] = {}

    async def register(player: Team) -> None:
        async with slots:
            account = await registrar.register(player.team, names[player.team])
        participants[player.team] = Participant(player, account)
        progress.advance()

    with ProgressBar("players", len(log.players)) as progress:
        await run_all(register(player) for player in log.players)
    return [participants[player.team] for player in log.players]
