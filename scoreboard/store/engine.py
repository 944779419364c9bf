"""Connections to Postgres: one bounded pool to the primary, one to a replica if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
import sqlalchemy as sa
from psycopg2.extras import register_uuid
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from scoreboard.store.patience import CONNECT_S

# UUID objects go in and come out of every statement, arrays included.
register_uuid()  # type: ignore[no-untyped-call]  # its stubs leave it untyped

# A statement that takes longer is broken: every query of the service is an index
# lookup or a bounded batch, the largest of a worker or a command.
STATEMENT_S = 15
# Somebody waits for those of a request.
REQUEST_STATEMENT_S = 8
# Locks are held for milliseconds; five seconds means a frozen peer, and the caller gets a 503 to retry.
_SERVER_OPTIONS = "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000 -c timezone=UTC"
# Waiting longer for a free connection than a client waits for us helps nobody.
_POOL_TIMEOUT_S = 5
# TCP gives up on a silent server after idle + interval × count = 25 s instead of two hours.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}

#: What SQLAlchemy raises when Postgres is down, restarting or has no connection left.
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


def make_engine(
    url: str, pool_size: int, *, name: str, is_autocommit: bool = False, statement_timeout_s: int = STATEMENT_S
) -> sa.Engine:
    """A lazily connecting engine; call it after fork. ``name`` shows in pg_stat_activity."""
    return sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT" if is_autocommit else "READ COMMITTED",
        # There is nothing to roll back where each statement has been committed.
        pool_reset_on_return=None if is_autocommit else "rollback",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_S,
        # Proxies in front of managed servers drop idle connections after some minutes.
        pool_recycle=300,
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        # What people send stays out of exception texts, and so out of the logs.
        hide_parameters=True,
        connect_args={
            "connect_timeout": round(CONNECT_S),
            "options": f"-c statement_timeout={statement_timeout_s}s {_SERVER_OPTIONS}",
            "application_name": f"scoreboard-{name}",
            **_KEEPALIVES,
        },
    )


class Database:
    """Where a use case gets its connections: ``write()`` on the primary, ``read()`` where it is cheapest."""

    def __init__(
        self,
        primary: sa.Engine,
        replica: sa.Engine | None = None,
        autocommitting: sa.Engine | None = None,
        on_replica_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_replica_lost`` is told of each read that goes to the primary instead.

        Without an engine of their own, autocommitting connections are those of the primary, switched over and
        back: a server that goes away just then keeps a place in the pool for good. Services bring their own.
        """
        self.primary = primary
        self.replica = replica
        self._on_replica_lost = on_replica_lost
        self._autocommitting = autocommitting or primary.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction on the primary, committed at the end, rolled back on an exception."""
        with self.primary.begin() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[sa.Connection]:
        """A connection on which each call is a transaction by itself, in one round trip instead of three."""
        with self._autocommitting.connect() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reads that need the newest state."""
        with self.primary.connect() as connection:
            yield connection

    @contextmanager
    def read_stale(self) -> Iterator[sa.Connection]:
        """A connection for reads that may lag: the replica if there is one, the primary when it fails."""
        if self.replica is None:
            with self.read() as connection:
                yield connection
            return
        try:
            connection = self.replica.connect()
        except UNAVAILABLE:
            self._on_replica_lost()
            with self.read() as fallback:
                yield fallback
            return
        with connection:
            yield connection

    def checked_out(self) -> int:
        """Connections in use right now; streams must not add to it."""
        pools = {engine.pool for engine in (self.primary, self._autocommitting)}
        return sum(pool.checkedout() for pool in pools if isinstance(pool, sa.QueuePool))

    def dispose(self) -> None:
        for engine in (self.primary, self.replica, self._autocommitting):
            if engine is not None:
                engine.dispose()


def violated_constraint(error: DBAPIError) -> str | None:
    """Name of the constraint that an IntegrityError is about."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None)
