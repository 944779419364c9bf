"""Work that has no hurry: expired tokens, old sessions, next months' partitions."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import structlog

from scoreboard.store import actions, batch, idempotency, ledger, sessions
from scoreboard.store.engine import UNAVAILABLE, Database
from scoreboard.store.ledger import Partition
from scoreboard.store.migrate import lock_migrators_out, without_queueing
from scoreboard.store.refusals import explain

log = structlog.get_logger(__name__)

# Rows touched by one run; it runs again soon.
_LIMIT = 5_000
# Transactions of one run in which external ids are forgotten, of ``_LIMIT`` rows each: as many rows a minute as a busy
# service gets in one.
_FORGET_MAX = 50
# Partitions made ahead: a service whose beat stood still for two months still has a partition to write to.
_MONTHS_AHEAD = 3
# Ended sessions stay for a while as evidence.
_KEEP_SESSIONS_DAYS = 30


def keep_house(database: Database, *, now: datetime | None = None) -> None:
    """Bounded; the next run does the rest."""
    with database.write() as connection:
        expired = actions.expire_issued(connection, limit=_LIMIT)
        keys = idempotency.delete_old(connection, limit=_LIMIT)
        dropped = sessions.delete_old(connection, older_than_days=_KEEP_SESSIONS_DAYS, limit=_LIMIT)
    forgotten = forget_external_ids(database)
    try:
        created = make_partitions(database, now or datetime.now(UTC))
    except UNAVAILABLE as error:
        # Months ahead of their need; the next run tries again.
        created = []
        log.warning("partitions_postponed", error=explain(error))
    if expired or dropped or keys or forgotten or created:
        log.info(
            "house_kept",
            expired=expired,
            sessions_dropped=dropped,
            keys_dropped=keys,
            external_ids_dropped=forgotten,
            partitions=created,
        )


def forget_external_ids(database: Database) -> int:
    """Drop the ids of game servers whose time is over, a transaction for each part of them; returns how many."""
    forgotten = 0
    for _ in range(_FORGET_MAX):
        with database.write() as connection:
            dropped = batch.delete_old(connection, limit=_LIMIT)
        forgotten += dropped
        if dropped < _LIMIT:
            break
    return forgotten


def make_partitions(database: Database, now: datetime, *, wait_s: float = 0.0) -> list[str]:
    """The ledger's partitions for last month, this one and the next ones; returns the new ones.

    Under the migrators' lock, one transaction each. No request is made to wait for longer than half a second: when
    that lock or the ledger isn't free in ``wait_s``, this raises LockNotAvailable in an OperationalError.
    """
    months = months_from(now, _MONTHS_AHEAD)
    with database.read() as connection:
        missing = ledger.missing_partitions(connection, months)
    return [
        partition.name
        for partition in missing
        if without_queueing(partial(_make_partition, database, partition), wait_s)
    ]


def _make_partition(database: Database, partition: Partition) -> bool:
    with database.write() as connection:
        lock_migrators_out(connection)
        # Another one may have made it since.
        if not ledger.missing_partitions(connection, [partition.start]):
            return False
        ledger.create_partition(connection, partition)
        return True


def months_from(now: datetime, ahead: int) -> list[datetime]:
    """First moments of the previous month, this one and the next ones (UTC).

    The previous one too: an action accepted before midnight may be settled after it.
    """
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months = []
    for shift in range(-1, ahead + 1):
        index = first.year * 12 + first.month - 1 + shift
        months.append(first.replace(year=index // 12, month=index % 12 + 1))
    return months
