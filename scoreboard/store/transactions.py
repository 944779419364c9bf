"""Statements for one transaction: the server's time, and timeouts that differ from the connection's."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa


def read_clock(connection: sa.Connection) -> datetime:
    """The server's time now, not when the transaction began."""
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now


def lift_statement_timeout(connection: sa.Connection) -> None:
    """Let the remaining statements of this transaction take as long as they need."""
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def bound_lock_wait(connection: sa.Connection, seconds: float) -> None:
    """Let the remaining statements of this transaction raise LockNotAvailable after so long a wait for a lock."""
    connection.exec_driver_sql("SELECT set_config('lock_timeout', %s, true)", (f"{seconds * 1000:.0f}ms",))


def try_lock(connection: sa.Connection, key: int) -> bool:
    """Take an advisory lock until the transaction ends; false when another transaction holds it.

    The transaction's lock, not the session's, which a pooler may hand to another client.
    """
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(key))).scalar_one())
