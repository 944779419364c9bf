"""The event stream: one bounded Redis stream from which every web process feeds its browsers.

Entries are addressed to one player, to everyone who watches a board, or to the
hubs themselves. An event's position is ``epoch:offset``; offsets grow by one with
each event, epochs when Redis has been emptied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import redis

from scoreboard.domain.standings import DEFAULT_BOARD
from scoreboard.live.connection import text
from scoreboard.live.server_run import RunScripts
from scoreboard.wire.answers import SettledAction
from scoreboard.wire.encoding import to_json
from scoreboard.wire.events import Event, UpdatedUser

STREAM = "sb:events:entries"
POSITION = "sb:events:position"
BOARD_TARGET = f"board:{DEFAULT_BOARD}"
CONTROL_TARGET = "control"
# Between services and hubs only: browsers get the board itself.
BOARD_CHANGED = "board:changed"
# About 50,000 entries of some 400 bytes are 20 MB in Redis and in each web process:
# the last minutes of a busy service, hours of a quiet one.
STREAM_MAX_ENTRIES = 50_000
# Entries sent in one script call, so that Redis is never busy for long.
_PUBLISH_BATCH = 500


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A position in the stream; grows from event to event."""

    epoch: int
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @property
    def stream_id(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, raw: str) -> Position | None:
        """A position as browsers send it back; None when it isn't one."""
        epoch, separator, offset = raw.partition(":")
        # 16 digits hold every position there will be; longer ones are noise, not numbers to parse.
        if not separator or not (epoch.isascii() and epoch.isdigit() and offset.isascii() and offset.isdigit()):
            return None
        return cls(int(epoch), int(offset)) if len(epoch) <= 16 and len(offset) <= 16 else None


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """An entry of the stream, appended in one piece: all events of one change for one target."""

    target: str
    payload: bytes
    count: int = 1
    action_id: UUID | None = None
    outcome: bytes = b""


@dataclass(frozen=True, slots=True)
class Received:
    """An entry as read back; ``position`` is that of its last event."""

    position: Position
    target: str
    count: int
    action_id: UUID | None
    payload: bytes
    outcome: bytes

    def events(self) -> list[tuple[Position, str, bytes]]:
        """Each event's position, type and JSON data."""
        events = orjson.loads(self.payload)
        first = self.position.offset - len(events) + 1
        return [
            (Position(self.position.epoch, first + i), kind, orjson.dumps(data))
            for i, (kind, data) in enumerate(events)
        ]


def for_user(
    user_id: UUID,
    events: Sequence[Event],
    *,
    action_id: UUID | None = None,
    outcome: SettledAction | None = None,
) -> StreamEntry:
    """Private events of one player; ``outcome`` wakes the requests that wait for the action."""
    payload = to_json([(event.type, event.data) for event in events])
    return StreamEntry(f"user:{user_id}", payload, len(events), action_id, to_json(outcome) if outcome else b"")


def board_changed(updated_user: UpdatedUser | None) -> StreamEntry:
    """Tells the hubs that the visible top may have changed."""
    return StreamEntry(BOARD_TARGET, to_json([(BOARD_CHANGED, updated_user)]))


def for_everyone(event: Event) -> StreamEntry:
    """A message to all open streams; it carries no state, so it is not sent later."""
    return StreamEntry(BOARD_TARGET, to_json([(event.type, event.data)]))


def session_ended(session_id: UUID) -> StreamEntry:
    """Tells the hubs to end the streams of a session."""
    return StreamEntry(CONTROL_TARGET, orjson.dumps({"endSession": str(session_id)}))


def user_ended(user_id: UUID) -> StreamEntry:
    """Tells the hubs to end all streams of a user."""
    return StreamEntry(CONTROL_TARGET, orjson.dumps({"endUser": str(user_id)}))


class EventLog:
    """The stream in Redis. Every method raises redis errors when Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._in_run = RunScripts(client)

    def publish(self, entries: Sequence[StreamEntry]) -> None:
        """Append entries in order. May append twice when Redis answers too late; readers tell by version."""
        for start in range(0, len(entries), _PUBLISH_BATCH):
            arguments: list[Any] = [STREAM_MAX_ENTRIES, "0"]
            for entry in entries[start : start + _PUBLISH_BATCH]:
                arguments += [entry.count, _packed(entry)]
            self._in_run.call("publish", [STREAM, POSITION], arguments)

    def begin_epoch(self) -> Position:
        """Start a new epoch, after the stream has jumped back in time."""
        epoch, offset = self._in_run.call("publish", [STREAM, POSITION], [STREAM_MAX_ENTRIES, "1"])
        return Position(int(text(epoch)), int(text(offset)))

    def position(self) -> Position:
        """The position of the stream; begins it when there is none."""
        values: Any = self._client.hmget(POSITION, "epoch", "offset")
        if values[0] is None:
            return self.begin_epoch()
        return Position(int(text(values[0])), int(text(values[1])))

    def latest(self, count: int) -> list[Received]:
        """The newest entries, oldest first."""
        rows: Any = self._client.xrevrange(STREAM, count=count)
        return [_received(row) for row in reversed(rows)]

    def read(self, after: Position, *, block_ms: int, count: int) -> list[Received]:
        """Entries after a position; waits up to ``block_ms`` (at least 1) for the first."""
        reply: Any = self._client.xread({STREAM: after.stream_id}, count=count, block=max(1, block_ms))
        if not reply:
            return []
        # RESP3 answers with a mapping, RESP2 with a list of pairs.
        rows = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
        if rows and isinstance(rows[0], list) and isinstance(rows[0][0], (list, tuple)):
            rows = rows[0]
        return [_received(row) for row in rows]


def _packed(entry: StreamEntry) -> bytes:
    """An entry as one value: every web process reads each, and what a client spends on a reply is by its values.

    Its parts end with line breaks, which JSON does not contain.
    """
    action = entry.action_id.hex if entry.action_id else ""
    return b"%b\n%d\n%b\n%b\n%b" % (entry.target.encode(), entry.count, action.encode(), entry.outcome, entry.payload)


def _received(row: Any) -> Received:
    stream_id, fields = row
    epoch, offset = stream_id.split(b"-")
    target, count, action, outcome, payload = fields[b"e"].split(b"\n", 4)
    return Received(
        Position(int(epoch), int(offset)),
        target.decode(),
        int(count),
        UUID(hex=action.decode()) if action else None,
        payload,
        outcome,
    )
