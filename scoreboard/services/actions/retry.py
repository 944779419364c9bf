"""Giving failed actions another chance: their players did what they were asked to, and were told 202."""

from __future__ import annotations

from scoreboard.store import actions, audit
from scoreboard.store.audit import AuditEvent
from scoreboard.store.engine import Database
from scoreboard.store.transactions import read_clock

# Rows in one transaction: some milliseconds under lock.
_BATCH = 1_000


def retry_failed(database: Database) -> int:
    """Make every failed action an accepted one, which the sweep settles; returns how many there were.

    Accepted when it was accepted at first, so it takes its old place. What has its
    ledger entry already fails again. Raises SQLAlchemy's OperationalError when Postgres is down.
    """
    with database.read() as connection:
        # What fails again meanwhile is not found again.
        now = read_clock(connection)
    retried = 0
    while True:
        with database.write() as connection:
            reopened = actions.reopen_failed(connection, before=now, limit=_BATCH)
            events = [
                AuditEvent("action.retried", None, action.user_id, details={"actionId": str(action.action_id)})
                for action in reopened
            ]
            audit.record(connection, *events)
        retried += len(reopened)
        if len(reopened) < _BATCH:
            return retried
