"""Work that has no hurry: expired tokens, old sessions, next months' partitions."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from scoreboard.store import actions, ledger, sessions
from scoreboard.store.engine import Database

log = structlog.get_logger(__name__)

# Rows touched by one run; it runs again soon.
_LIMIT = 5_000
# Partitions made ahead: a service whose beat stood still for two months still has its place to write.
_MONTHS_AHEAD = 3
# Ended sessions stay for a while as evidence.
_KEEP_SESSIONS_DAYS = 30


def keep_house(database: Database, *, now: datetime | None = None) -> None:
    """Bounded; whatever is left is done by the next run."""
    with database.write() as connection:
        expired = actions.expire_issued(connection, limit=_LIMIT)
        dropped = sessions.delete_old(connection, older_than_days=_KEEP_SESSIONS_DAYS, limit=_LIMIT)
    created = make_partitions(database, now or datetime.now(UTC))
    if expired or dropped or created:
        log.info("house_kept", expired=expired, sessions_dropped=dropped, partitions=created)


def make_partitions(database: Database, now: datetime) -> list[str]:
    """The ledger's partitions for last month, this one and the next ones; returns the new ones."""
    with database.write() as connection:
        return ledger.ensure_partitions(connection, months_from(now, _MONTHS_AHEAD))


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
