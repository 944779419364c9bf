"""Publishes committed changes to Redis: standings first, then their events.

All of it may be repeated at will: standings carry versions, events may come twice.
What can't be published now stays noted in Postgres, and a sweep publishes it later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import structlog

from scoreboard.domain.standings import TOP_SIZE
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.standings import Applied, Standings
from scoreboard.live.stream.events import EventLog, StreamEntry, board_changed, for_user
from scoreboard.store import users
from scoreboard.store.engine import Database
from scoreboard.store.users import StandingNote
from scoreboard.wire.events import UpdatedUser, rank_changed, score_updated

log = structlog.get_logger(__name__)

# Standings written in one script call: Redis is busy for some milliseconds at most.
PUBLISH_BATCH = 500


def publish_quietly(events: EventLog, entries: Sequence[StreamEntry]) -> bool:
    """Publish; when Redis is down say so in the log and go on."""
    try:
        events.publish(entries)
    except UNAVAILABLE as error:
        log.warning("publish_failed", error=str(error), entries=len(entries))
        return False
    return True


def publish_standing(database: Database, standings: Standings, events: EventLog, user_id: UUID) -> None:
    """Publish one player's noted changes now, if Redis answers; the sweep does it otherwise."""
    try:
        publish_notes(database, standings, events, user_id=user_id)
    except UNAVAILABLE as error:
        log.warning("standing_not_published", error=str(error), user_id=str(user_id))


def publish_notes(
    database: Database,
    standings: Standings,
    events: EventLog,
    *,
    user_id: UUID | None = None,
    older_than_s: float = 0.0,
) -> int:
    """Publish noted standings (one player's, or the oldest of all); returns how many notes were done.

    The sweep leaves young notes to the process that made them: both at once would tell it twice.
    """
    with database.read() as connection:
        notes = users.pending_notes(connection, user_id, older_than_s=older_than_s, limit=PUBLISH_BATCH)
        if not notes:
            return 0
        changed = users.take_standings(connection, sorted({note.user_id for note in notes}))
    applied = standings.apply(changed)
    changes = [note for note in notes if note.new_score is not None and note.previous_score is not None]
    increments: Counter[UUID] = Counter()
    for note in changes:
        increments[note.user_id] += (note.new_score or 0) - (note.previous_score or 0)
    told = [_score_entry(note, applied) for note in changes]
    events.publish(told + entries_after(applied, increments))
    with database.write() as connection:
        users.clear_notes(connection, [note.id for note in notes])
    return len(notes)


def _score_entry(note: StandingNote, applied: Applied) -> StreamEntry:
    rank = next((move.new_rank for move in applied.moves if move.user_id == note.user_id), None)
    new_rank = rank if applied.is_whole else None
    event = score_updated(
        note.user_id, old_score=note.previous_score or 0, new_score=note.new_score or 0, new_rank=new_rank
    )
    return for_user(note.user_id, [event])


def entries_after(
    applied: Applied, increments: Mapping[UUID, int], *, told: Collection[UUID] = ()
) -> list[StreamEntry]:
    """The events of a batch of standings: new ranks of all players that moved, and the board itself.

    ``increments`` says by how much each player's score changed; those ``told`` have heard of their own rank.
    """
    entries: list[StreamEntry] = []
    movers = {move.user_id for move in applied.moves}
    if applied.is_whole:
        entries += _moved(applied, told)
        entries += _pushed_aside(applied, movers)
    updated = _updated_user(applied, increments) if applied.is_whole else None
    if updated is not None:
        entries.append(board_changed(updated))
    elif (
        not applied.is_whole or applied.top_before[:TOP_SIZE] != applied.top_after[:TOP_SIZE] or _is_count_new(applied)
    ):
        entries.append(board_changed(None))
    return entries


def _is_count_new(applied: Applied) -> bool:
    """Whether a player has come to the board, or left it: every board shows how many there are."""
    return any(move.is_news and (move.old_rank is None) != (move.new_rank is None) for move in applied.moves)


def _moved(applied: Applied, told: Collection[UUID]) -> list[StreamEntry]:
    return [
        for_user(move.user_id, [rank_changed(move.user_id, old_rank=move.old_rank, new_rank=move.new_rank)])
        for move in applied.moves
        if move.is_news and move.old_rank != move.new_rank and move.user_id not in told
    ]


def _pushed_aside(applied: Applied, movers: set[UUID]) -> list[StreamEntry]:
    """Players of the watched top whom others have moved up or down."""
    before = {user_id: rank for rank, user_id in enumerate(applied.top_before, start=1)}
    after = {user_id: rank for rank, user_id in enumerate(applied.top_after, start=1)}
    entries = []
    for user_id in (before.keys() | after.keys()) - movers:
        old, new = before.get(user_id), after.get(user_id)
        if old != new and min(old or TOP_SIZE + 1, new or TOP_SIZE + 1) <= TOP_SIZE:
            entries.append(for_user(user_id, [rank_changed(user_id, old_rank=old, new_rank=new)]))
    return entries


def _updated_user(applied: Applied, increments: Mapping[UUID, int]) -> UpdatedUser | None:
    """The last player whose change shows in the top."""
    for move in reversed(applied.moves):
        best = min(move.old_rank or TOP_SIZE + 1, move.new_rank or TOP_SIZE + 1)
        if move.is_news and best <= TOP_SIZE:
            return UpdatedUser(
                userId=move.user_id,
                oldRank=move.old_rank,
                newRank=move.new_rank,
                scoreChange=increments.get(move.user_id, 0),
            )
    return None
