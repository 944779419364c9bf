"""Proving that nothing was lost or invented: ledger, scores, actions, and Redis against Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.actions import State
from scoreboard.domain.ledger import GENESIS, LedgerEntry, entry_hash
from scoreboard.live.standings import Standings
from scoreboard.store import board, ledger
from scoreboard.store.engine import Database
from scoreboard.store.tables import actions, score_history, users

# Findings named one by one; the rest is counted.
_FINDINGS_MAX = 50
_BATCH = 2_000
# A standing whose publisher died is swept after 3 s, every 2 s.
_GRACE_S, _LOOK_AGAIN_S = 8.0, 0.25


@dataclass
class Report:
    """What was looked at and what is wrong; no findings means all is well."""

    players: int = 0
    entries: int = 0
    board_rows: int = 0
    is_board_whole: bool = False
    findings: list[str] = field(default_factory=list)
    finding_count: int = 0

    def add(self, finding: str) -> None:
        self.finding_count += 1
        if len(self.findings) < _FINDINGS_MAX:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the users table says of a player."""

    score: int
    reached_at: datetime
    seq: int
    hash: bytes
    created_at: datetime


def verify(
    database: Database, standings: Standings | None, on_progress: Callable[[int], object] = lambda _: None
) -> Report:
    """Check the invariants; ``standings`` None leaves Redis out. Safe while serving.

    One repeatable-read snapshot of Postgres is checked against itself. Redis is compared
    afterwards, with those players left out whose standing has changed since.
    """
    report = Report()
    with database.primary.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        heads = _heads(connection)
        report.players = len(heads)
        _check_ledger(connection, heads, report, on_progress)
        _check_actions(connection, report)
    if standings is not None:
        _check_board(database, standings, report)
    return report


def _heads(connection: sa.Connection) -> dict[UUID, _Head]:
    columns = (
        users.c.id,
        users.c.score,
        users.c.score_reached_at,
        users.c.ledger_seq,
        users.c.ledger_hash,
        users.c.created_at,
    )
    rows = connection.execution_options(yield_per=_BATCH).execute(sa.select(*columns))
    return {
        row.id: _Head(row.score, row.score_reached_at, row.ledger_seq, bytes(row.ledger_hash), row.created_at)
        for row in rows
    }


def _check_ledger(
    connection: sa.Connection, heads: dict[UUID, _Head], report: Report, on_progress: Callable[[int], object]
) -> None:
    unseen = set(heads)
    for user_id, entries in groupby(ledger.stream_entries(connection, batch=_BATCH), key=lambda entry: entry.user_id):
        unseen.discard(user_id)
        count = _check_chain(user_id, entries, heads[user_id], report)
        report.entries += count
        on_progress(count)
    for user_id in unseen:
        _check_chain(user_id, iter(()), heads[user_id], report)


def _check_chain(user_id: UUID, entries: Iterator[LedgerEntry], head: _Head, report: Report) -> int:
    score, seq, previous_hash, reached_at = 0, 0, GENESIS, head.created_at
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            report.add(f"player {user_id}: ledger entry {seq} is missing")
            seq = entry.seq
        if entry.previous_score != score or entry.new_score != score + entry.increment:
            report.add(f"player {user_id}: ledger entry {seq} does not follow from the one before")
        if entry.previous_hash != previous_hash or entry.hash != _seal(entry):
            report.add(f"player {user_id}: ledger entry {seq} was changed after it was written")
        score, previous_hash = entry.new_score, entry.hash
        if entry.increment:
            reached_at = max(reached_at, entry.at)
    if score != head.score:
        report.add(f"player {user_id}: score {head.score}, but the ledger's sum is {score}")
    if (seq, previous_hash) != (head.seq, head.hash):
        report.add(f"player {user_id}: the ledger's last entry is not the one on record")
    if reached_at != head.reached_at:
        report.add(f"player {user_id}: reached the score at {reached_at}, on record is {head.reached_at}")
    return seq


def _seal(entry: LedgerEntry) -> bytes:
    return entry_hash(
        entry.previous_hash,
        user_id=entry.user_id,
        seq=entry.seq,
        action_id=entry.action_id,
        previous_score=entry.previous_score,
        increment=entry.increment,
        new_score=entry.new_score,
        reason=entry.reason,
        actor_id=entry.actor_id,
        at=entry.at,
    )


def _check_actions(connection: sa.Connection, report: Report) -> None:
    """Every applied action has exactly one ledger entry of its own points, and no other action has any."""
    joined = actions.outerjoin(score_history, actions.c.id == score_history.c.action_id)
    wrong = (
        sa.select(actions.c.id, actions.c.state, sa.func.count(score_history.c.seq).label("entries"))
        .select_from(joined)
        .group_by(actions.c.id)
        .having(
            sa.or_(
                sa.func.count(score_history.c.seq) != sa.case((actions.c.state == State.APPLIED.value, 1), else_=0),
                sa.func.coalesce(sa.func.sum(score_history.c.increment), 0)
                != sa.func.coalesce(actions.c.score_increment, 0),
            )
        )
    )
    for row in connection.execute(wrong):
        report.add(f"action {row.id}: {row.state}, with {row.entries} ledger entries or another increment")
    orphans = (
        sa.select(score_history.c.action_id)
        .where(score_history.c.action_id.is_not(None))
        .where(~sa.exists().where(actions.c.id == score_history.c.action_id))
    )
    for action_id in connection.execute(orphans).scalars():
        report.add(f"action {action_id}: in the ledger, but there is no such action")


def _check_board(database: Database, standings: Standings, report: Report) -> None:
    first = standings.read(offset=0, limit=1)
    report.is_board_whole = first is not None
    if first is None:
        return
    with database.read() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        expected = sorted(
            (each for batch in board.stream_standings(connection, batch=_BATCH) for each in batch if each.is_visible),
            key=lambda standing: standing.order,
        )
    shown = {}
    for start in range(0, first.board.total_players + _BATCH, _BATCH):
        page = standings.read(offset=start, limit=_BATCH)
        if page is None:
            report.is_board_whole = False
            return
        shown.update({entry.user_id: entry for entry in page.board.entries})
    report.board_rows = len(shown)
    suspects = [
        standing.user_id
        for standing in expected
        if (entry := shown.pop(standing.user_id, None)) is None
        or (entry.score, entry.updated_at, entry.username) != (standing.score, standing.reached_at, standing.username)
    ]
    for user_id in _off_for_good(database, standings, suspects + list(shown)):
        report.add(f"player {user_id}: Redis shows another standing than Postgres")


def _off_for_good(database: Database, standings: Standings, suspects: list[UUID]) -> list[UUID]:
    """Those that stay different: a change on its way to Redis gets there within a sweep."""
    deadline = time.monotonic() + _GRACE_S
    while (suspects := _still_off(database, standings, suspects)) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
    return suspects


def _still_off(database: Database, standings: Standings, suspects: list[UUID]) -> list[UUID]:
    """Those that differ at a close look too; the others changed while we read."""
    off = []
    for user_id in suspects[:_FINDINGS_MAX]:
        with database.read() as connection:
            row = connection.execute(
                sa.select(users.c.score, users.c.score_reached_at, users.c.status, users.c.is_hidden).where(
                    users.c.id == user_id
                )
            ).one_or_none()
        found = standings.read_around(user_id, radius=0)
        entry = found.board.entries[0] if found and found.board.entries else None
        is_visible = row is not None and row.status != "banned" and not row.is_hidden
        expected = (row.score, row.score_reached_at) if row and is_visible else None
        if expected != ((entry.score, entry.updated_at) if entry else None):
            off.append(user_id)
    return off
