"""Proving that nothing was lost or invented: ledger, scores, actions, and Redis against Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.ledger import GENESIS, LedgerEntry, entry_hash
from scoreboard.domain.standings import Standing
from scoreboard.live.standings import Standings
from scoreboard.store import board, consistency, ledger, users
from scoreboard.store.consistency import LedgerHead
from scoreboard.store.engine import Database
from scoreboard.store.transactions import lift_statement_timeout

# Findings named one by one; the rest is counted.
_FINDINGS_MAX = 50
_BATCH = 2_000
# A standing whose publisher died is swept after 3 s, every 2 s.
_GRACE_S, _LOOK_AGAIN_S = 8.0, 0.25


@dataclass
class Report:
    """Counts of the rows checked, and the findings; none means all is well."""

    players: int = 0
    entries: int = 0
    board_rows: int = 0
    is_board_whole: bool = False
    findings: list[str] = field(default_factory=list)
    finding_count: int = 0

    def add(self, findings: Iterable[str]) -> None:
        """Count the findings, and keep the first ones."""
        for finding in findings:
            self.finding_count += 1
            if len(self.findings) < _FINDINGS_MAX:
                self.findings.append(finding)


class BoardCheck(NamedTuple):
    """The number of rows that Redis shows, whether these are all, and the findings."""

    rows: int
    is_whole: bool
    findings: Sequence[str]


def verify(
    database: Database, standings: Standings | None, on_progress: Callable[[int], object] = lambda _: None
) -> Report:
    """Check the invariants; ``standings`` None leaves Redis out. Safe while serving.

    One repeatable-read snapshot of Postgres is checked against itself. Redis is compared
    afterwards, with those players left out whose standing has changed since.
    """
    report = Report()

    def count(entries: int) -> None:
        report.entries += entries
        on_progress(entries)

    with database.primary.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        lift_statement_timeout(connection)
        heads = consistency.read_ledger_heads(connection, batch=_BATCH)
        report.players = len(heads)
        report.add(_ledger_findings(connection, heads, count))
        report.add(_action_findings(connection))
    if standings is not None:
        board_check = _check_board(database, standings)
        report.board_rows, report.is_board_whole = board_check.rows, board_check.is_whole
        report.add(board_check.findings)
    return report


def _ledger_findings(
    connection: sa.Connection, heads: Mapping[UUID, LedgerHead], on_entries: Callable[[int], None]
) -> Iterator[str]:
    """The findings in the players' ledgers; ``on_entries`` gets the length of each."""
    unseen = set(heads)
    for user_id, entries in groupby(ledger.stream_entries(connection, batch=_BATCH), key=lambda entry: entry.user_id):
        unseen.discard(user_id)
        yield from _chain_findings(heads[user_id], entries, on_entries)
    for user_id in unseen:
        yield from _chain_findings(heads[user_id], iter(()), on_entries)


def _chain_findings(
    head: LedgerHead, entries: Iterator[LedgerEntry], on_entries: Callable[[int], None]
) -> Iterator[str]:
    score, seq, previous_hash, reached_at = 0, 0, GENESIS, head.created_at
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            yield f"player {head.id}: ledger entry {seq} is missing"
            seq = entry.seq
        if entry.previous_score != score or entry.new_score != score + entry.increment:
            yield f"player {head.id}: ledger entry {seq} does not follow from the one before"
        if entry.previous_hash != previous_hash or entry.hash != _seal(entry):
            yield f"player {head.id}: ledger entry {seq} was changed after it was written"
        score, previous_hash = entry.new_score, entry.hash
        if entry.increment:
            reached_at = max(reached_at, entry.at)
    if score != head.score:
        yield f"player {head.id}: score {head.score}, but the ledger's sum is {score}"
    if (seq, previous_hash) != (head.ledger_seq, bytes(head.ledger_hash)):
        yield f"player {head.id}: the ledger's last entry is not the one on record"
    if reached_at != head.score_reached_at:
        yield f"player {head.id}: reached the score at {reached_at}, on record is {head.score_reached_at}"
    on_entries(seq)


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


def _action_findings(connection: sa.Connection) -> Iterator[str]:
    """Every applied action has exactly one ledger entry of its own points, and no other action has any."""
    for action in consistency.find_unbalanced_actions(connection):
        yield f"action {action.id}: {action.state}, with {action.entries} ledger entries or another increment"
    for action_id in consistency.find_unknown_actions(connection):
        yield f"action {action_id}: in the ledger, but there is no such action"


def _check_board(database: Database, standings: Standings) -> BoardCheck:
    first = standings.read(offset=0, limit=1)
    if first is None:
        return BoardCheck(0, False, ())
    expected = _visible_standings(database)
    shown = {}
    for start in range(0, first.board.total_players + _BATCH, _BATCH):
        page = standings.read(offset=start, limit=_BATCH)
        if page is None:
            return BoardCheck(0, False, ())
        shown.update({entry.user_id: entry for entry in page.board.entries})
    rows = len(shown)
    suspects = [
        standing.user_id
        for standing in expected
        if (entry := shown.pop(standing.user_id, None)) is None
        or (entry.score, entry.updated_at, entry.username) != (standing.score, standing.reached_at, standing.username)
    ]
    off = _off_for_good(database, standings, suspects + list(shown))
    return BoardCheck(rows, True, [f"player {user_id}: Redis shows another standing than Postgres" for user_id in off])


def _visible_standings(database: Database) -> list[Standing]:
    """Those on the board, in its order."""
    with database.read() as connection:
        lift_statement_timeout(connection)
        batches = board.stream_standings(connection, batch=_BATCH)
        visible = [standing for batch in batches for standing in batch if standing.is_visible]
    return sorted(visible, key=lambda standing: standing.order)


def _off_for_good(database: Database, standings: Standings, suspects: list[UUID]) -> list[UUID]:
    """The differences that stay: a change on its way to Redis gets there within a sweep."""
    deadline = time.monotonic() + _GRACE_S
    while (suspects := _still_off(database, standings, suspects)) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
    return suspects


def _still_off(database: Database, standings: Standings, suspects: list[UUID]) -> list[UUID]:
    """The differences that a second look confirms; the others changed while we read."""
    off = []
    for user_id in suspects[:_FINDINGS_MAX]:
        with database.read() as connection:
            user = users.get_user(connection, user_id)
        found = standings.read_around(user_id, radius=0)
        entry = found.board.entries[0] if found and found.board.entries else None
        expected = (user.score, user.score_reached_at) if user and user.is_on_board else None
        if expected != ((entry.score, entry.updated_at) if entry else None):
            off.append(user_id)
    return off
