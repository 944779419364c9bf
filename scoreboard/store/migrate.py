"""Bringing the schema up to date with Alembic; safe to call from several processes at once, and while serving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa
from psycopg2.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy.exc import OperationalError

from scoreboard.store.engine import make_engine
from scoreboard.store.fitness import READ_ONLY, SCRIPTS, DatabaseUnfitError, read_state, unusable

# Any number, the same everywhere: names the migrators' lock among Postgres' advisory locks.
_LOCK = 0x5C0_3116
# Another migrator is waited for: longer than any migration of ours, shorter than a release phase may take.
_OTHERS_WAIT_S = 900.0
# A statement that waits for a table's lock makes all later ones wait too; no request may notice it.
_LOCK_TIMEOUT_S = 0.5
# The other statements get their turn in this pause before the next try.
_PAUSE_S = 1.0
#: How long a release phase tries in all: a backup or a report that reads the table takes minutes.
TABLES_WAIT_S = 600.0

Result = TypeVar("Result")


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing.

    Raises DatabaseUnfitError, and SQLAlchemy's OperationalError when Postgres is down, or a
    table or another migrator's lock was not to be had in ten minutes.
    """
    # Workers need the lock below, not Alembic, which would take a tenth of their start.
    from alembic import command
    from alembic.config import Config

    # Works through every pooler: nothing in it belongs to a session. Migrations of big tables take their time.
    engine = make_engine(
        database_url, 2, name="migrate", statement_timeout_s=0, lock_timeout_s=_LOCK_TIMEOUT_S, pooler="transaction"
    )
    try:
        with engine.connect() as connection:
            state = read_state(connection)
        if problem := unusable(state) or (READ_ONLY if state.is_read_only else None):
            raise DatabaseUnfitError(problem)
        with _only_one(engine), engine.connect() as connection:
            config = Config()
            config.set_main_option("script_location", str(SCRIPTS))
            config.attributes["connection"] = connection

            def apply() -> None:
                try:
                    command.upgrade(config, revision)
                    connection.commit()
                finally:
                    connection.rollback()

            without_queueing(apply, TABLES_WAIT_S)
    finally:
        engine.dispose()


def lock_migrators_out(connection: sa.Connection) -> None:
    """Take the migrators' lock for this transaction, and bound its waits for all further locks.

    Raises LockNotAvailable, in an OperationalError, when it or the next lock isn't free within ``_LOCK_TIMEOUT_S``.
    """
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S * 1000:.0f}'"))
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def without_queueing(change: Callable[[], Result], wait_s: float, *, pause_s: float = _PAUSE_S) -> Result:
    """Try a change of tables again until nothing is in its way: its locks must be free within half a second each.

    Raises the error of the last try.
    """
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            return change()
        except OperationalError as error:
            is_busy = isinstance(error.orig, (LockNotAvailable, DeadlockDetected))
            if not is_busy or time.monotonic() >= give_up_at:
                raise
        time.sleep(pause_s)


@contextmanager
def _only_one(engine: sa.Engine) -> Iterator[None]:
    """Hold the migrators' lock, on a connection of its own: each migration is a transaction by itself."""
    with engine.connect() as connection:

        def lock() -> None:
            connection.rollback()
            lock_migrators_out(connection)

        without_queueing(lock, _OTHERS_WAIT_S, pause_s=0.0)
        # It stands idle while the migrations are at work.
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield
