"""Checks whether the service can work with a database: version, encoding, tables, rights, writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from scoreboard.store.refusals import ServerRefuses
from scoreboard.store.statements import Statement
from scoreboard.store.tables import metadata

SCRIPTS = Path(__file__).parent / "migrations"
OLDEST_MAJOR = 14
_ENCODING = "UTF8"
READ_ONLY = "it takes no writes: a standby, or set to read-only"


class DatabaseUnfitError(Exception):
    """The database answers, but the service can't work with it; the message is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """Properties of a database."""

    version: int
    encoding: str
    name: str
    is_read_only: bool
    # The migration it is at; None without tables.
    revision: str | None
    # What the role lacks, as in "UPDATE on users".
    missing_rights: tuple[str, ...]


# All tables are read and added to. The ledger's rows and the audit's never change.
_MORE_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "users": ("UPDATE",),
    "actions": ("UPDATE",),
    "settlements": ("UPDATE",),
    "sessions": ("UPDATE", "DELETE"),
    "idempotency_keys": ("UPDATE", "DELETE"),
    "standing_outbox": ("DELETE",),
}
_RIGHTS = [
    (table.name, right)
    for table in metadata.sorted_tables
    for right in ("SELECT", "INSERT", *_MORE_RIGHTS.get(table.name, ()))
]


class StateRow(NamedTuple):
    """Read the properties of any database, also of an empty one."""

    version: int
    encoding: str
    name: str
    is_read_only: bool
    is_migrated: bool
    missing_rights: list[str] | None


_READ_STATE = Statement("read_state", StateRow)
_REVISION = sa.text("SELECT version_num FROM alembic_version")
# A migration holds a table for half a second at most.
_LOCK_WAIT_MS = 1000
# What a write needs: the lock that each insert or update takes, which a writer is not given while somebody holds the
# table, and room on the disk. An insert would find room in a page for minutes after the disk is full. So more than fits
# into work_mem is written into a temporary file (150 kB, 2 ms), which is gone with the statement.
_LOCK_TABLES = sa.text(
    f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}; SET LOCAL work_mem = '64kB'; "
    f"LOCK TABLE {', '.join(table.name for table in metadata.sorted_tables)} IN ROW EXCLUSIVE MODE"
)
_SPILL = sa.text("SELECT count(*) FROM generate_series(1, 10000)")


def read_state(connection: sa.Connection) -> DatabaseState:
    """Raises SQLAlchemy's OperationalError when Postgres is down."""
    tables, rights = zip(*_RIGHTS, strict=True)
    (row,) = _READ_STATE.fetch(connection, tables=list(tables), rights=list(rights))
    revision = connection.execute(_REVISION).scalar() if row.is_migrated else None
    return DatabaseState(
        row.version, row.encoding, row.name, row.is_read_only, revision, tuple(row.missing_rights or ())
    )


def probe_writes(connection: sa.Connection) -> None:
    """Check that a fit database takes writes now, without writing; the caller rolls back.

    Raises ServerRefuses when its disk is full, SQLAlchemy's OperationalError when another session holds a table.
    """
    connection.execute(_LOCK_TABLES)
    try:
        connection.execute(_SPILL)
    except ServerRefuses as error:
        # A bound on temporary files (temp_file_limit) says nothing of the tables.
        if error.meaning.stops_writes:
            raise


def unusable(state: DatabaseState) -> str | None:
    """The reason why this database can't even be migrated; None when it can."""
    if state.version < OLDEST_MAJOR:
        return f"PostgreSQL {state.version} is too old: {OLDEST_MAJOR} or later is needed"
    if state.encoding != _ENCODING:
        return (
            f'the database "{state.name}" is in {state.encoding}, which lacks letters that names have: make one with '
            f"CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL"
        )
    return None


def misfit(state: DatabaseState) -> str | None:
    """The reason why the service can't work with this database until an operator mends it; None when it can."""
    if problem := unusable(state):
        return problem
    if state.revision is None or _is_older(state.revision):
        return "its tables are not this release's: run `scoreboard migrate`"
    if state.missing_rights:
        return f"the role lacks {', '.join(state.missing_rights)}"
    return None


@cache
def older_revisions() -> frozenset[str]:
    """The revisions before this release's own."""
    # By the names of the migrations' files, as importing Alembic would take a tenth of each process's start.
    *older, _head = sorted(path.stem.partition("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))
    return frozenset(older)


def _is_older(revision: str) -> bool:
    # An unknown revision is that of a newer release, which has migrated and is about to take over.
    return revision in older_revisions()
