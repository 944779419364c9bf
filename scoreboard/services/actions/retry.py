"""Giving failed actions another chance: they were accepted with a 202."""

from __future__ import annotations

from scoreboard.store import actions, audit
from scoreboard.store.audit import AuditEvent
from scoreboard.store.engine import Database
from scoreboard.store.transactions import read_clock

# Rows in one transaction: some milliseconds under lock.
_BATCH = 1_000


def retry_failed(database: Database) -> int:
    """Make every failed action an accepted one, which the sweep settles; returns how many there were.

    Each keeps the time of its first acceptance, and so its old place. An action that has its
    ledger entry already fails again. Raises SQLAlchemy's OperationalError when Postgres is down.
    """
    with database.read() as connection:
        # An action that fails again meanwhile is not found again.
        now = read_clock(connection)
    retried = 0
    while True:
        with database.write() as connection:
            reopened = actions.reopen_failed(connection, before=now, limit=_BATCH)
            events = [
                AuditEvent("action.retried", target_id=action.user_id, details={"actionId": str(action.action_id)})
                for action in reopened
            ]
            audit.record(connection, *events)
        retried += len(reopened)
        if len(reopened) < _BATCH:
            return retried
