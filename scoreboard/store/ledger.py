"""The ledger ``score_history``: append-only, chained per player, partitioned by month."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.ledger import LedgerEntry
from scoreboard.store.tables import score_history


@dataclass(frozen=True, slots=True)
class HistoryItem:
    seq: int
    action_id: UUID | None
    action_type: str | None
    previous_score: int
    increment: int
    new_score: int
    reason: str | None
    at: datetime


def append_entry(connection: sa.Connection, entry: LedgerEntry) -> None:
    """Append a sealed entry that is not an action's; those are written with their settlement."""
    connection.execute(
        sa.insert(score_history).values(
            user_id=entry.user_id,
            seq=entry.seq,
            at=entry.at,
            action_id=entry.action_id,
            previous_score=entry.previous_score,
            increment=entry.increment,
            new_score=entry.new_score,
            reason=entry.reason,
            actor_id=entry.actor_id,
            previous_hash=entry.previous_hash,
            hash=entry.hash,
        )
    )


def list_history(connection: sa.Connection, user_id: UUID, *, before_seq: int | None, limit: int) -> list[HistoryItem]:
    """A player's changes, newest first."""
    columns = [score_history.c[name] for name in HistoryItem.__dataclass_fields__]
    query = (
        sa.select(*columns).where(score_history.c.user_id == user_id).order_by(score_history.c.seq.desc()).limit(limit)
    )
    if before_seq is not None:
        query = query.where(score_history.c.seq < before_seq)
    return [HistoryItem(**row._asdict()) for row in connection.execute(query)]


def stream_entries(connection: sa.Connection, *, batch: int) -> Iterator[LedgerEntry]:
    """The whole ledger, player by player in order, through a server-side cursor of ``batch`` rows."""
    columns = [score_history.c[name] for name in LedgerEntry.__dataclass_fields__]
    query = sa.select(*columns).order_by(score_history.c.user_id, score_history.c.seq)
    rows = connection.execution_options(yield_per=batch).execute(query)
    for row in rows:
        values = row._asdict()
        values["previous_hash"] = bytes(values["previous_hash"])
        values["hash"] = bytes(values["hash"])
        yield LedgerEntry(**values)


_IN_DEFAULT = sa.text("SELECT EXISTS (SELECT FROM score_history_default WHERE at >= :start AND at < :end)")


def ensure_partitions(connection: sa.Connection, months: Sequence[datetime]) -> list[str]:
    """Create the partitions of these months (first moments, UTC) where they are missing; returns the new ones.

    A month whose entries went to the default partition already stays there: nothing is lost by it.
    """
    created = []
    for start in months:
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        name = f"score_history_{start:%Y_%m}"
        if connection.execute(sa.select(sa.func.to_regclass(name))).scalar_one() is not None:
            continue
        if connection.execute(_IN_DEFAULT, {"start": start, "end": end}).scalar_one():
            continue
        connection.execute(
            sa.text(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF score_history "
                f"FOR VALUES FROM ('{start:%Y-%m-%d}+00') TO ('{end:%Y-%m-%d}+00')"
            )
        )
        created.append(name)
    return created
