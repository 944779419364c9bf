"""Read an event log: who plays, and which problem each solves first at what time."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from pathlib import Path

# A year: longer than any contest, and still exact in milliseconds as a float.
MAX_AT_MS = 366 * 86_400_000
# What the default action type takes as metadata.
MAX_PROBLEM_LENGTH = 64


class LogError(Exception):
    """A line of the log is not usable; the message names the file and the line."""


@dataclass(frozen=True)
class Solve:
    """A first accepted submission, ``at_ms`` after the start."""

    problem: str
    at_ms: int


@dataclass
class Team:
    """A team of the log with its solves in time order."""

    team: str
    name: str
    solves: list[Solve] = field(default_factory=list)


@dataclass(frozen=True)
class ContestLog:
    """The players in the order of the log."""

    players: list[Team]

    @property
    def action_count(self) -> int:
        return sum(len(player.solves) for player in self.players)

    def first(self, count: int | None) -> ContestLog:
        """The same log with its first ``count`` players only; None keeps all."""
        return ContestLog(self.players[:count])


def read_log(path: Path) -> ContestLog:
    """Read JSON lines of the kinds contest, team and submission.

    Raises LogError at the first bad line. The lines end at LF only, so a name may hold any other separator.
    """
    reader = _Reader()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                # Editors of some systems put it in front of UTF-8.
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                reader.take(line)
            except ValueError as error:
                raise LogError(f"{path.name}, line {number}: {error}") from None
    if not reader.players:
        raise LogError(f"{path.name} has no teams")
    return ContestLog(list(reader.players.values()))


class _Reader:
    def __init__(self) -> None:
        self.players: dict[str, Team] = {}
        self._solved: set[tuple[str, str]] = set()
        self._last_at_ms = 0

    def take(self, line: bytes) -> None:
        """Add one line; raises ValueError saying what is wrong with it."""
        if not line.strip():
            return
        entry = _parse(line)
        kind = entry.get("kind")
        if kind == "team":
            self._take_team(entry)
        elif kind == "submission":
            self._take_submission(entry)
        elif kind != "contest":
            raise ValueError(f"kind must be contest, team or submission, not {json.dumps(kind)[:60]}")

    def _take_team(self, entry: dict[str, object]) -> None:
        team = _text(entry, "team")
        if team in self.players:
            raise ValueError(f"team {team} is listed twice")
        self.players[team] = Team(team, _text(entry, "name"))

    def _take_submission(self, entry: dict[str, object]) -> None:
        team, problem, at_ms = _text(entry, "team"), _text(entry, "problem"), entry.get("atMs")
        if team not in self.players:
            raise ValueError(f"team {team} is not listed above")
        if len(problem) > MAX_PROBLEM_LENGTH:
            raise ValueError(f"problem must have at most {MAX_PROBLEM_LENGTH} characters")
        if not isinstance(at_ms, int) or isinstance(at_ms, bool) or not 0 <= at_ms <= MAX_AT_MS:
            raise ValueError(f"atMs must be a whole number from 0 to {MAX_AT_MS}")
        if at_ms < self._last_at_ms:
            raise ValueError(f"atMs {at_ms} is before {self._last_at_ms} of an earlier line")
        if not isinstance(entry.get("accepted"), bool):
            raise ValueError("accepted must be true or false")
        self._last_at_ms = at_ms
        if entry["accepted"] and (team, problem) not in self._solved:
            self._solved.add((team, problem))
            self.players[team].solves.append(Solve(problem, at_ms))


def _parse(line: bytes) -> dict[str, object]:
    try:
        entry = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    # RecursionError: a line of ten thousand opening brackets.
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    return entry


def _text(entry: dict[str, object], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty")
    return value
