"""The board in Redis: a sorted set in the board's total order, beside a hash of the players.

A member is the moment the score was reached (8 bytes, big-endian µs) and the
player's id (16 bytes), its score is the negated points: so Redis' own order by
score, then member, is the board's order by points, first to reach, id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from typing import Any
from uuid import UUID

import redis

from scoreboard.domain.standings import (
    DEFAULT_BOARD,
    TOP_SIZE,
    Board,
    BoardEntry,
    RawStanding,
    Standing,
    from_microseconds,
    microseconds,
)
from scoreboard.live.connection import load_script, probe_writes, text
from scoreboard.live.server_run import RunScripts

# A rebuild that takes longer is dead; a million players take seconds.
_REBUILD_LEASE_S = 600
# Standings filled in by one script call: 40 KB that keep Redis busy for 2 ms, as everybody else waits meanwhile.
# Lua takes at most 8,000 values in a call, here two per standing.
FILL_BATCH = 500
_RECORD = struct.Struct(">16sddBH")
_REACHED = struct.Struct(">Q")


class RebuildOvertakenError(Exception):
    """Redis was emptied, or another rebuild began, while this one was filling the board."""


@dataclass(frozen=True, slots=True)
class Move:
    """Where one applied standing went; ranks from 1, None for not on the board or unknown."""

    user_id: UUID
    old_rank: int | None
    new_rank: int | None
    is_news: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """The effect of a batch of standings. Ranks mean nothing unless the board ``is_whole``."""

    is_whole: bool
    version: int
    top_before: tuple[UUID, ...]
    top_after: tuple[UUID, ...]
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    board: Board
    rank: int | None


@dataclass(frozen=True, slots=True)
class FillProgress:
    """Whether the board may be served; else for how many seconds a rebuild has been filling it, None for none."""

    is_whole: bool
    filling_for_s: int | None


class Standings:
    """One board, named by its key. Every method raises redis errors when Redis is down."""

    def __init__(self, client: redis.Redis, board: str = DEFAULT_BOARD) -> None:
        self._client = client
        prefix = f"sb:{{{board}}}:"
        self._standings, self._players = prefix + "standings", prefix + "players"
        self._version, self._whole, self._token = prefix + "version", prefix + "whole", prefix + "rebuild"
        self._versions = prefix + "versions"
        self._in_run = RunScripts(client)
        self._fill = load_script(client, "fill_standings")
        self._begin = load_script(client, "begin_rebuild")
        self._touch = load_script(client, "touch_version")

    def apply(self, standings: Sequence[Standing]) -> Applied:
        """Write standings in order, in one atomic step; older versions change nothing."""
        # More rows than the top has, to see where those went who were pushed out of it.
        arguments: list[Any] = [2 * TOP_SIZE - 1]
        for standing in standings:
            arguments += _pack(standing)
        keys = [self._standings, self._players, self._version, self._whole, self._versions]
        whole, version, before, after, ranks = self._in_run.call("apply_standings", keys, arguments)
        moves = tuple(
            Move(standing.user_id, _rank(ranks[2 * i]), _rank(ranks[2 * i + 1]), ranks[2 * i] != -2)
            for i, standing in enumerate(standings)
        )
        return Applied(bool(whole), int(text(version)), _ids(before), _ids(after), moves)

    def read(self, *, offset: int, limit: int) -> Slice | None:
        """A slice of the board; None when it is not whole."""
        return self._slice("", offset, limit)

    def read_around(self, user_id: UUID, *, radius: int) -> Slice | None:
        """The rows around a player; None when the board is not whole, no rows when the player is not on it."""
        return self._slice(user_id.bytes, radius, 0)

    def _slice(self, user: bytes | str, first: int, count: int) -> Slice | None:
        keys = [self._standings, self._players, self._version, self._whole]
        reply = self._in_run.call("read_standings", keys, [user, first, count])
        if not reply[0]:
            return None
        _, version, total, rank, start, members, values = reply
        entries = tuple(map(_unpack, count_from(start + 1), members, values))
        return Slice(Board(entries, total, int(text(version))), _rank(rank))

    def touch(self) -> None:
        """Raise the version to the present time, as Postgres' answers carried while Redis was away."""
        self._touch(keys=[self._version])

    def begin_rebuild(self, token: str) -> None:
        """Empty the board; from now on only Postgres is served until ``finish_rebuild``."""
        keys = [self._standings, self._players, self._whole, self._token, self._versions]
        self._begin(keys=keys, args=[token, _REBUILD_LEASE_S])

    def fill(self, rows: Sequence[RawStanding], token: str) -> None:
        """Write standings of different players for the rebuilder; each ``FILL_BATCH`` is an atomic step.

        Older versions change nothing. Cheapest from the board's end upwards: each then
        goes in before all others. Raises RebuildOvertakenError.
        """
        keys = [self._standings, self._players, self._token, self._versions]
        for start in range(0, len(rows), FILL_BATCH):
            packed = b"".join(_records(rows[start : start + FILL_BATCH]))
            try:
                self._fill(keys=keys, args=[token, packed])
            except redis.ResponseError as error:
                if "LOST" in str(error):
                    raise RebuildOvertakenError from error
                raise

    def finish_rebuild(self, token: str) -> None:
        """Declare the board whole. Raises RebuildOvertakenError."""
        keys = [self._whole, self._token, self._version]
        if not self._in_run.call("finish_rebuild", keys, [token]):
            raise RebuildOvertakenError

    def is_whole(self) -> bool:
        """Whether the board may be served: filled, by a server that has not been restarted since.

        A restarted server may have come back with an older copy of the data.
        """
        return bool(self._in_run.call("is_whole", [self._whole]))

    def probe(self) -> None:
        """Whether changes can get here at all. Raises redis errors when Redis is down or refuses writes."""
        probe_writes(self._client)

    def progress(self) -> FillProgress:
        if self.is_whole():
            return FillProgress(True, None)
        left_s: Any = self._client.ttl(self._token)
        return FillProgress(False, _REBUILD_LEASE_S - int(left_s) if left_s >= 0 else None)

    def count_players(self) -> int:
        return int(self._client.zcard(self._standings))

    def sum_versions(self) -> int:
        """The sum of all players' versions, hidden ones' too: it tells an older copy from the present state."""
        total: Any = self._client.get(self._versions)
        return int(total or 0)


def _pack(standing: Standing) -> list[Any]:
    reached = _REACHED.pack(microseconds(standing.reached_at))
    visible = int(standing.is_visible)
    return [standing.user_id.bytes, standing.version, standing.score, reached, visible, standing.username]


def _records(rows: Sequence[RawStanding]) -> Iterator[bytes]:
    for user_id, version, score, reached, is_visible, username in rows:
        value = _REACHED.pack(reached) + f"{version} {score} {is_visible:d} {username}".encode()
        yield _RECORD.pack(bytes(user_id), version, -score, is_visible, len(value))
        yield value


def _unpack(rank: int, member: bytes, value: bytes) -> BoardEntry:
    (reached,) = _REACHED.unpack_from(member)
    _version, score, _visible, username = value[8:].split(b" ", 3)
    return BoardEntry(rank, UUID(bytes=member[8:]), username.decode(), int(score), from_microseconds(reached))


def _rank(index: int) -> int | None:
    return index + 1 if index >= 0 else None


def _ids(members: Sequence[bytes]) -> tuple[UUID, ...]:
    return tuple(UUID(bytes=member[8:]) for member in members)
