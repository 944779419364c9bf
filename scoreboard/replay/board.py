"""After the last solve: wait for the outcomes, read the board, and compare it with the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from .account import Account
from .client import Json, ReplayError, number_of, run_all, text_of, time_of
from .play import Participant, Play

# Everything accepted should be settled in seconds; the service's own sweep for lost work needs some more.
SETTLE_S = 60.0
POLL_S, MAX_POLL_S = 0.25, 2.0
UNSETTLED = frozenset({"issued", "accepted"})
PAGE = 100
# One minute's worth of reads at the default limit.
MAX_PAGES = 60
# The board follows a settlement within moments; each turn reads all pages again.
COMPARE_TRIES, COMPARE_PAUSE_S = 4, 1.0


@dataclass(frozen=True)
class Row:
    """A row of the board."""

    rank: int
    user_id: str
    username: str
    score: int


@dataclass(frozen=True)
class Expected:
    """A player's row as it must be at the end; ``reached_at`` is the last acceptance among the actions that count."""

    user_id: str
    username: str
    score: int
    reached_at: datetime | None
    note: str = ""


async def await_outcomes(participants: Sequence[Participant], on_settled: Callable[[], None]) -> None:
    """Fill in status, reason and time of acceptance of every accepted action; waits SETTLE_S at most."""
    deadline = time.monotonic() + SETTLE_S
    await run_all(_await_player(participant, deadline, on_settled) for participant in participants)


async def _await_player(participant: Participant, deadline: float, on_settled: Callable[[], None]) -> None:
    for play in participant.plays:
        if play.action_id is not None:
            await _await_outcome(participant.account, play, deadline)
            on_settled()


async def _await_outcome(account: Account, play: Play, deadline: float) -> None:
    pause_s = POLL_S
    # Bounded by the deadline; the first look is always taken.
    while True:
        data = await account.call("GET", f"/v1/actions/{play.action_id}")
        play.status, play.accepted_at = text_of(data, "status"), time_of(data, "acceptedAt")
        reason = data.get("reason")
        play.reason = str(reason) if reason is not None else None
        if play.status not in UNSETTLED or time.monotonic() > deadline:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(MAX_POLL_S, pause_s * 2)


def expect(participants: Sequence[Participant], points: int) -> list[Expected]:
    """Each player's score at the end by the log alone; outcomes of actions play no part."""
    return [_expect(participant, points) for participant in participants]


def _expect(participant: Participant, points: int) -> Expected:
    reached = [play.accepted_at for play in participant.plays if play.status == "applied" and play.accepted_at]
    others = [f"{play.problem} {play.status}" for play in participant.plays if play.status != "applied"]
    account = participant.account
    score = points * len(participant.player.solves)
    return Expected(account.user_id, account.username, score, max(reached, default=None), ", ".join(others))


def differences(rows: Sequence[Row], expected: Sequence[Expected]) -> list[str]:
    """One line for each way in which the board differs from the log; players outside the log are left out.

    Among equal scores the one accepted first stands first; equal times stand in either order here, for the API's
    times may be coarser than the database's. Players without points stand by registration, which the log doesn't know.
    """
    wanted = {player.user_id: player for player in expected}
    shown = {row.user_id: row for row in rows}
    found = [_compare(player, shown.get(player.user_id), len(rows)) for player in expected]
    lines = [line for line in found if line]
    ours = [row for row in rows if row.user_id in wanted]
    if len(ours) != len({row.user_id for row in ours}):
        lines.append("a player stands on the board twice")
    for above, below in pairwise(ours):
        if above.rank >= below.rank or above.score < below.score:
            lines.append(f"{above.username} ({above.score}) stands above {below.username} ({below.score})")
        elif above.score == below.score and _is_later(wanted[above.user_id], wanted[below.user_id]):
            lines.append(f"{above.username} stands above {below.username}, who reached {below.score} first")
    return lines


def _compare(player: Expected, row: Row | None, row_count: int) -> str | None:
    note = f" ({player.note})" if player.note else ""
    if row is None:
        return f"{player.username}: not among the {row_count} rows of the board, {player.score} in the log{note}"
    if row.score != player.score:
        return f"{player.username}: {row.score} on the board, {player.score} in the log{note}"
    return None


def _is_later(above: Expected, below: Expected) -> bool:
    return above.reached_at is not None and below.reached_at is not None and above.reached_at > below.reached_at


async def compare_board(reader: Account, expected: Sequence[Expected]) -> list[str]:
    """Read the board and compare it, again after a pause while it still differs; the last differences."""
    lines: list[str] = []
    for attempt in range(COMPARE_TRIES):
        if attempt:
            await asyncio.sleep(COMPARE_PAUSE_S)
        rows, is_steady = await _read_board(reader)
        lines = differences(rows, expected)
        if is_steady and not lines:
            break
    return lines


async def _read_board(reader: Account) -> tuple[list[Row], bool]:
    """All rows up to MAX_PAGES, and whether every page showed the same version of the board."""
    rows: list[Row] = []
    versions: set[object] = set()
    for page in range(MAX_PAGES):
        data = await reader.call("GET", "/v1/leaderboard", params={"limit": PAGE, "offset": page * PAGE})
        versions.add(data.get("version"))
        entries = data.get("leaderboard")
        if not isinstance(entries, list):
            raise ReplayError("an answer of the service lacks leaderboard")
        rows.extend(_row(entry) for entry in entries)
        if len(entries) < PAGE or len(rows) >= number_of(data, "totalPlayers"):
            break
    return rows, len(versions) == 1


def _row(entry: Json) -> Row:
    return Row(
        number_of(entry, "rank"), text_of(entry, "userId"), text_of(entry, "username"), number_of(entry, "score")
    )
