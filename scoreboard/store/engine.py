"""Connections to Postgres: one bounded pool to the primary, one to a replica if there is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import orjson
import sqlalchemy as sa
from psycopg2.extras import register_uuid
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from scoreboard.store.cut_connections import replace_cut_connections
from scoreboard.store.pooling import PLANNED_ONCE, Pooler, apply_settings
from scoreboard.store.refusals import ServerRefuses, translate
from scoreboard.store.replica import Replica
from scoreboard.store.timeouts import CONNECT_S

Answer = TypeVar("Answer")

# UUID objects go in and come out of every statement, arrays included.
register_uuid()  # type: ignore[no-untyped-call]  # its stubs leave it untyped

# A statement that takes longer is broken: every query of the service is an index
# lookup or a bounded batch, the largest of a worker or a command.
STATEMENT_S = 15
# A client waits for the statements of a request.
REQUEST_STATEMENT_S = 8
# Locks are held for milliseconds; five seconds means a frozen peer, and the caller gets a 503 to retry.
_LOCK_TIMEOUT_S = 5
_IDLE_IN_TRANSACTION_S = 30
# A refused write is held against the server for so long: until its next success, or until others have met it too.
_REMEMBER_REFUSAL_S = 10.0
# Waiting longer for a free connection than the client waits for its answer is of no use.
_POOL_TIMEOUT_S = 5
# TCP gives up on a silent server after idle + interval × count = 25 s instead of two hours.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}

#: What is raised when Postgres is down, restarting, has no connection left, or can't do its work (ServerRefuses).
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


def make_engine(
    url: str,
    pool_size: int,
    *,
    name: str,
    is_autocommit: bool = False,
    is_for_lookups: bool = False,
    statement_timeout_s: float = STATEMENT_S,
    lock_timeout_s: float = _LOCK_TIMEOUT_S,
    pooler: Pooler = "session",
) -> sa.Engine:
    """A lazily connecting engine; call it after fork. ``name`` shows in pg_stat_activity. A time-out of 0 is off.

    ``is_for_lookups``: its statements find rows by their keys only, and are planned so (``PLANNED_ONCE``).
    """
    engine = sa.create_engine(
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
            # Not the database's, which may be one that lacks the letters of a name.
            "client_encoding": "UTF8",
            "application_name": f"scoreboard-{name}",
            **_KEEPALIVES,
        },
    )
    event.listen(engine, "handle_error", translate, retval=True)
    replace_cut_connections(engine)
    settings = {
        "statement_timeout": f"{statement_timeout_s * 1000:.0f}",
        "lock_timeout": f"{lock_timeout_s * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{_IDLE_IN_TRANSACTION_S * 1000}",
        "timezone": "UTC",
    }
    if is_for_lookups:
        settings |= PLANNED_ONCE
    apply_settings(engine, settings, pooler)
    return engine


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
        self.replica = Replica(replica, UNAVAILABLE, on_replica_lost) if replica is not None else None
        self._autocommitting = autocommitting or primary.execution_options(isolation_level="AUTOCOMMIT")
        self._refused: tuple[float, ServerRefuses] | None = None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction on the primary, committed at the end, rolled back on an exception."""
        try:
            with self.primary.begin() as connection:
                yield connection
        except ServerRefuses as error:
            self._note(error)
            raise
        self._refused = None

    @contextmanager
    def autocommit(self) -> Iterator[sa.Connection]:
        """A connection on which each call is a transaction by itself, in one round trip instead of three."""
        try:
            with self._autocommitting.connect() as connection:
                yield connection
        except ServerRefuses as error:
            self._note(error)
            raise

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reads that need the newest state."""
        with self.primary.connect() as connection:
            yield connection

    def read_stale(self, question: Callable[[sa.Connection], Answer]) -> Answer:
        """The answer to a question that may lag: the replica's if there is one, the primary's when that fails.

        The question may so be asked twice.
        """
        if self.replica is not None:
            answered = self.replica.ask(question)
            if answered is not None:
                return answered.value
        with self.read() as connection:
            return question(connection)

    def renew(self) -> None:
        """Make new connections from now on: those there are lead to a server that can't serve."""
        self.primary.dispose()
        self._autocommitting.dispose()

    def refused_write(self) -> ServerRefuses | None:
        """Why the server took no writes some seconds ago, if it has taken none in this process since."""
        if self._refused is None:
            return None
        at, error = self._refused
        return error if time.monotonic() - at < _REMEMBER_REFUSAL_S else None

    def _note(self, error: ServerRefuses) -> None:
        if error.meaning.stops_writes:
            self._refused = time.monotonic(), error

    def checked_out(self) -> int:
        """Connections in use right now; streams must not add to it."""
        pools = {engine.pool for engine in (self.primary, self._autocommitting)}
        return sum(pool.checkedout() for pool in pools if isinstance(pool, sa.QueuePool))

    def dispose(self) -> None:
        for engine in (self.primary, self._autocommitting):
            engine.dispose()
        if self.replica is not None:
            self.replica.engine.dispose()


def violated_constraint(error: DBAPIError) -> str | None:
    """Name of the constraint that an IntegrityError is about."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None)
