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
class LedgerRow:
    seq: int
    action_id: UUID | None
    action_type: str | None
    previous_score: int
    increment: int
    new_score: int
    reason: str | None
    at: datetime


def append_entry(connection: sa.Connection, entry: LedgerEntry) -> None:
    """Append a sealed adjustment; entries of actions are written with their settlement."""
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


def list_history(connection: sa.Connection, user_id: UUID, *, before_seq: int | None, limit: int) -> list[LedgerRow]:
    """A player's changes, newest first."""
    columns = [score_history.c[name] for name in LedgerRow.__dataclass_fields__]
    query = (
        sa.select(*columns).where(score_history.c.user_id == user_id).order_by(score_history.c.seq.desc()).limit(limit)
    )
    if before_seq is not None:
        query = query.where(score_history.c.seq < before_seq)
    return [LedgerRow(**row._asdict()) for row in connection.execute(query)]


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


# Not to_regclass: its answer may be older than the wait for a lock.
_IS_TABLE = sa.text(
    "SELECT EXISTS (SELECT FROM pg_class WHERE relname = :name AND relnamespace = "
    "(SELECT relnamespace FROM pg_class WHERE oid = CAST('score_history' AS regclass)))"
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A month of the ledger, from its first moment (UTC) to the next one's."""

    start: datetime

    @property
    def end(self) -> datetime:
        return self.start.replace(year=self.start.year + self.start.month // 12, month=self.start.month % 12 + 1)

    @property
    def name(self) -> str:
        return f"score_history_{self.start:%Y_%m}"


def missing_partitions(connection: sa.Connection, months: Sequence[datetime]) -> list[Partition]:
    """The months (first moments, UTC) among these without a partition.

    A month whose entries went to the default partition already stays there: nothing is lost by it.
    """
    return [
        partition
        for partition in map(Partition, months)
        if not connection.execute(_IS_TABLE, {"name": partition.name}).scalar_one()
        and not connection.execute(_IN_DEFAULT, {"start": partition.start, "end": partition.end}).scalar_one()
    ]


def create_partition(connection: sa.Connection, partition: Partition) -> None:
    """Locks the whole ledger until the transaction ends."""
    connection.execute(
        sa.text(
            f"CREATE TABLE {partition.name} PARTITION OF score_history "
            f"FOR VALUES FROM ('{partition.start:%Y-%m-%d}+00') TO ('{partition.end:%Y-%m-%d}+00')"
        )
    )
