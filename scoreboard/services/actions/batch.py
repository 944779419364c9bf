"""Taking in the finished actions of a trusted game server: many players in one call, each row by itself.

A row that is refused changes nothing and is not remembered. One that is taken in is an accepted action like any
other, and settled as those are. The same external id again gets the first answer for seven days.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from scoreboard.coalesce import Coalescer
from scoreboard.domain.accounts import Status
from scoreboard.domain.actions import check_reported_points
from scoreboard.domain.errors import (
    ActionAlreadyCompleted,
    ScoreboardError,
    ServiceUnavailable,
    ValidationFailed,
)
from scoreboard.domain.rules import AHEAD_MAX
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.intake import CallerChanged
from scoreboard.services.actions.issue import served_player
from scoreboard.store import batch
from scoreboard.store.audit import Origin
from scoreboard.store.batch import BatchAction, BatchLookup, Kept
from scoreboard.store.engine import Database
from scoreboard.store.intake import ServedPlayer
from scoreboard.store.sessions import Caller

#: Rows of one call: a settlement of a few milliseconds, and within the body's bound with the longest of everything.
BATCH_MAX = 200
#: Characters; ids of other systems are UUIDs, numbers, or a few of them joined.
EXTERNAL_ID_MAX = 128
#: Past this a game server has been away for longer than a player remembers what it was for.
LATE_MAX = timedelta(hours=24)
# Batches of one process wait in a row for their statements, of some milliseconds each.
_WAITING_MAX = 200


@dataclass(frozen=True, slots=True)
class FinishedAction:
    """A row as it was sent, its fields valid by themselves."""

    external_id: str
    user_id: UUID
    action_type: str
    metadata: Mapping[str, object]
    started_at: datetime
    completed_at: datetime
    points: int | None
    data: str | None

    def digest(self) -> bytes:
        """Tells the very same contents from others, however they were written."""
        parts = [
            self.external_id,
            self.user_id.hex,
            self.action_type,
            self.metadata,
            self.started_at,
            self.completed_at,
            self.points,
            self.data,
        ]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True)
class Play:
    """A completion that would count against its player's limits now."""

    user_id: UUID
    is_flagged: bool
    completed_at: datetime
    digest: bytes


@dataclass(frozen=True, slots=True)
class TakenRow:
    """An action that is committed; an old one was taken in by an earlier call and may be settled."""

    action_id: UUID
    is_new: bool


Row = FinishedAction | ScoreboardError
Answer = TakenRow | ScoreboardError
#: Counts what has room in all limits of its player; the refusals of the others. By the moment that is now.
CountPlays = Callable[[datetime, Sequence[Play]], Sequence[ScoreboardError | None]]


class BatchIntake:
    """The statements of batches: of one process one runs at a time, so they need one connection.

    Both methods raise ServiceUnavailable when too many wait, and SQLAlchemy's OperationalError when Postgres is down.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one_by_one: Coalescer[Callable[[], object], object] = Coalescer(
            lambda statements: [statement() for statement in statements], batch_max=1, waiting_max=_WAITING_MAX
        )

    def look_up(self, caller: Caller, rows: Sequence[FinishedAction]) -> BatchLookup:
        """What is known of players and external ids. Raises CallerChanged."""

        def ask() -> BatchLookup:
            with self._database.autocommit() as connection:
                return batch.look_up_batch(connection, caller, [(row.user_id, row.external_id) for row in rows])

        found: BatchLookup = self._one_by_one(ask)  # type: ignore[assignment]  # what ask returns
        if not found.is_caller:
            raise CallerChanged
        return found

    def accept(self, caller: Caller, actions: Sequence[BatchAction], origin: Origin) -> set[UUID]:
        """Take actions in; committed when this returns. See ``store.batch.accept_batch``."""

        def write() -> set[UUID]:
            with self._database.autocommit() as connection:
                return batch.accept_batch(connection, caller, actions, origin)

        return self._one_by_one(write)  # type: ignore[return-value]  # what write returns


@dataclass(slots=True)
class _Entry:
    """A valid row on its way to its answer."""

    nth: int
    row: FinishedAction
    digest: bytes
    is_flagged: bool = False
    answer: Answer | None = None


def accept_batch(
    intake: BatchIntake,
    catalogue: Catalogue,
    count: CountPlays,
    *,
    caller: Caller,
    rows: Sequence[Row],
    origin: Origin,
    before_accepting: Callable[[Sequence[UUID]], object] = lambda _: None,
) -> list[Answer]:
    """Take in what can be; the answers go by the rows, and what is taken in is committed when this returns.

    ``before_accepting`` is told which actions there may be. Raises CallerChanged, and what ``BatchIntake`` raises; then
    no row has been taken in, or, if only Postgres' reply was lost, all that could be: the same call may be made again.
    """
    entries = [_Entry(nth, row, row.digest()) for nth, row in enumerate(rows) if isinstance(row, FinishedAction)]
    lookup = intake.look_up(caller, [entry.row for entry in entries])
    for entry, player, kept in zip(entries, lookup.players, lookup.kept, strict=True):
        entry.answer = _known(entry, kept) if kept else _refusal(entry, player, catalogue, lookup.now)
        entry.is_flagged = player is not None and player.status is Status.FLAGGED
    leaders: dict[str, _Entry] = {}
    for entry in entries:
        if entry.answer is None:
            leaders.setdefault(entry.row.external_id, entry)
    _count(list(leaders.values()), count, lookup.now)
    new = [entry for entry in leaders.values() if entry.answer is None]
    actions = [_action(entry) for entry in new]
    before_accepting(
        [action.action_id for action in actions]
        + [entry.answer.action_id for entry in entries if isinstance(entry.answer, TakenRow)]
    )
    _accept(intake, new, actions, caller=caller, origin=origin)
    answers: list[Answer | None] = [row if isinstance(row, ScoreboardError) else None for row in rows]
    for entry in entries:
        answers[entry.nth] = entry.answer or _follow(entry, leaders[entry.row.external_id])
    return [answer for answer in answers if answer is not None]


def _known(entry: _Entry, kept: Kept) -> Answer:
    """The answer to a row whose external id names an action already."""
    return TakenRow(kept.action_id, is_new=False) if kept.digest == entry.digest else _another()


def _another() -> ActionAlreadyCompleted:
    return ActionAlreadyCompleted("This externalId came with other contents before.")


def _refusal(entry: _Entry, player: ServedPlayer | None, catalogue: Catalogue, now: datetime) -> ScoreboardError | None:
    """What a single call would be refused with; None for a row that may be taken in."""
    row = entry.row
    try:
        action_type = catalogue.check_request(row.action_type, row.metadata)
        check_reported_points(action_type, row.points, field="points")
        _check_times(row, now)
        served_player(player)
    except ScoreboardError as error:
        return error
    return None


def _check_times(row: FinishedAction, now: datetime) -> None:
    """Raises ValidationFailed. ``now`` is the database's, whose clock decides."""
    if row.started_at > row.completed_at:
        raise ValidationFailed({"startedAt": "is after completedAt"})
    if row.completed_at > now + AHEAD_MAX:
        raise ValidationFailed({"completedAt": f"is more than {AHEAD_MAX.seconds} s ahead of the service's clock"})
    if row.completed_at < now - LATE_MAX:
        raise ValidationFailed({"completedAt": f"is more than {LATE_MAX // timedelta(hours=1)} hours ago"})


def _count(entries: Sequence[_Entry], count: CountPlays, now: datetime) -> None:
    """Count what may be taken in, the earliest first: a window begins with the first completion in it."""
    if not entries:
        return
    ordered = sorted(entries, key=lambda entry: entry.row.completed_at)
    plays = [Play(entry.row.user_id, entry.is_flagged, entry.row.completed_at, entry.digest) for entry in ordered]
    for entry, refusal in zip(ordered, count(now, plays), strict=True):
        entry.answer = refusal


def _action(entry: _Entry) -> BatchAction:
    row = entry.row
    return BatchAction(
        action_id=uuid7(),
        external_id=row.external_id,
        digest=entry.digest,
        user_id=row.user_id,
        action_type=row.action_type,
        metadata=row.metadata,
        started_at=row.started_at,
        completed_at=row.completed_at,
        completion_time_ms=(row.completed_at - row.started_at) // timedelta(milliseconds=1),
        points=row.points,
        data=row.data,
    )


def _accept(
    intake: BatchIntake, entries: Sequence[_Entry], actions: Sequence[BatchAction], *, caller: Caller, origin: Origin
) -> None:
    """Take these in. One that was not is another call's, which came first with the same id, or lost its player."""
    if not entries:
        return
    accepted = intake.accept(caller, actions, origin)
    missed: list[_Entry] = []
    for entry, action in zip(entries, actions, strict=True):
        if action.action_id in accepted:
            entry.answer = TakenRow(action.action_id, is_new=True)
        else:
            missed.append(entry)
    if not missed:
        return
    lookup = intake.look_up(caller, [entry.row for entry in missed])
    for entry, player, kept in zip(missed, lookup.players, lookup.kept, strict=True):
        entry.answer = _known(entry, kept) if kept else _refusal_of_player(player)


def _refusal_of_player(player: ServedPlayer | None) -> ScoreboardError:
    try:
        served_player(player)
    except ScoreboardError as error:
        return error
    # Another one a moment ago, as is unbanned just now.
    return ServiceUnavailable(1)


def _follow(entry: _Entry, leader: _Entry) -> Answer:
    """The answer to a row with the same external id as one before it in the same call."""
    assert leader.answer is not None
    is_other = isinstance(leader.answer, TakenRow) and entry.digest != leader.digest
    return _another() if is_other else leader.answer
