"""Classifies Postgres' errors by SQLSTATE, the same in every process.

The driver sorts errors by whose fault they are in general; a read-only server is an
"internal error" to it, a missing right a "programming error". To the service both are the
same as a server that is down: nothing has changed, and the call may be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of an SQLSTATE about the server: words for operators, and whether to replace the connection."""

    words: str
    # Another connection, made now, may lead to a server that serves: after a failover, a restart, a migration.
    is_connection_bad: bool = False
    # All writes meet it, not this statement alone, so that health has to tell.
    stops_writes: bool = False


_NOT_MIGRATED = Meaning("its tables are not this release's; run `scoreboard migrate`", stops_writes=True)
_POOLED = Meaning(
    "a connection pooler changes the connection between statements; set DATABASE_POOLER=transaction", True, True
)
# Appendix A of the PostgreSQL manual. All other codes are about one statement: its values, its locks, its time.
MEANINGS: Mapping[str, Meaning] = {
    "25006": Meaning("it takes no writes: a standby, or set to read-only", True, stops_writes=True),
    "42501": Meaning("the role lacks a right on the tables", stops_writes=True),
    "53000": Meaning("it lacks resources"),
    "53100": Meaning("its disk is full", stops_writes=True),
    "53200": Meaning("it is out of memory"),
    "53300": Meaning("it has no connection left"),
    "53400": Meaning("it has reached a limit of its configuration"),
    "57P01": Meaning("it is shutting down", True),
    "57P02": Meaning("it is restarting after a crash", True),
    "57P03": Meaning("it is starting up", True),
    "57P04": Meaning("the database has been dropped", True),
    "57P05": Meaning("it ended an idle connection", True),
    "25P03": Meaning("it ended a connection that stood idle in a transaction", True),
    "58000": Meaning("its operating system fails it", stops_writes=True),
    "58030": Meaning("it can't read or write its files", stops_writes=True),
    "42P01": _NOT_MIGRATED,
    "42703": _NOT_MIGRATED,
    "3F000": _NOT_MIGRATED,
    # "cached plan must not change result type": a migration ran after this connection had prepared its statements.
    "0A000": Meaning("its tables changed under a prepared statement", True),
    "26000": _POOLED,
    "42P05": _POOLED,
}


_LOCK_NOT_AVAILABLE = "55P03"
TABLES_HELD = "another session holds a lock on its tables: see pg_locks"


class ServerRefuses(OperationalError):
    """Postgres answers, but can't serve; handled as if it were down."""

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[str(getattr(self.orig, "pgcode", ""))]


def meaning_of(error: BaseException) -> Meaning | None:
    """The meaning of this driver's error about the server; None when it is about the statement."""
    return MEANINGS.get(str(getattr(error, "pgcode", "")))


def is_lock_timeout(error: Exception) -> bool:
    """Whether a statement gave up waiting for another session's lock."""
    return getattr(getattr(error, "orig", None), "pgcode", None) == _LOCK_NOT_AVAILABLE


def explain(error: Exception) -> str:
    """One line for an operator: the server's message and its meaning, without statement and values."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
    lines = [line.strip() for line in str(origin).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    meaning = meaning_of(origin)
    return f"{said} ({meaning.words})" if meaning else said


def translate(context: ExceptionContext) -> BaseException | None:
    """SQLAlchemy's hook for errors: those about the server become ServerRefuses, and take a bad connection along.

    Giving up the connection gives up all that are older than this moment too: most likely they lead to the same server.
    """
    error = context.original_exception
    meaning = meaning_of(error)
    if meaning is None:
        return None
    if meaning.is_connection_bad:
        context.is_disconnect = True
    return ServerRefuses(
        context.statement, None, error, hide_parameters=True, connection_invalidated=context.is_disconnect
    )
