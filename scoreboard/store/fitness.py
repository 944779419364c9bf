"""Whether a database is one that the service can work with: version, encoding, tables, rights, writes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from scoreboard.store.tables import metadata

SCRIPTS = Path(__file__).parent / "migrations"
OLDEST_MAJOR = 14
_ENCODING = "UTF8"
READ_ONLY = "it takes no writes: a standby, or set to read-only"


class DatabaseUnfitError(Exception):
    """The database answers, but is not one to work with; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class State:
    """What a database says of itself."""

    version: int
    encoding: str
    name: str
    is_read_only: bool
    # The migration it is at; None without tables.
    revision: str | None
    # The tables on which the role lacks a right.
    closed_tables: tuple[str, ...]


# Read and written by every process; the ledger's rows and the audit's are only added to.
_TABLES = ", ".join(f"('{table.name}')" for table in metadata.sorted_tables)
_STATE = sa.text(
    f"""
    SELECT CAST(current_setting('server_version_num') AS integer) / 10000 AS version,
           pg_encoding_to_char(encoding) AS encoding, datname AS name,
           pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only,
           to_regclass('alembic_version') IS NOT NULL AS is_migrated,
           (SELECT array_agg(named.name ORDER BY named.name) FROM (VALUES {_TABLES}) AS named (name)
            WHERE to_regclass(named.name) IS NOT NULL
            AND NOT (has_table_privilege(to_regclass(named.name), 'SELECT')
                     AND has_table_privilege(to_regclass(named.name), 'INSERT'))) AS closed_tables
    FROM pg_database WHERE datname = current_database()
    """  # noqa: S608  # our own table names
)
_REVISION = sa.text("SELECT version_num FROM alembic_version")


def read_state(connection: sa.Connection) -> State:
    """Raises SQLAlchemy's OperationalError when Postgres is down."""
    row = connection.execute(_STATE).one()
    is_open = row.is_migrated and "alembic_version" not in (row.closed_tables or ())
    revision = connection.execute(_REVISION).scalar() if is_open else None
    return State(row.version, row.encoding, row.name, row.is_read_only, revision, tuple(row.closed_tables or ()))


def unusable(state: State) -> str | None:
    """Why not even a migration can be made of this database; None when one can."""
    if state.version < OLDEST_MAJOR:
        return f"PostgreSQL {state.version} is too old: {OLDEST_MAJOR} or later is needed"
    if state.encoding != _ENCODING:
        return (
            f'the database "{state.name}" is in {state.encoding}, which lacks letters that names have: make one with '
            f"CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL"
        )
    return None


def misfit(state: State) -> str | None:
    """Why the service can't work with this database until somebody has mended that; None when it can."""
    if problem := unusable(state):
        return problem
    if state.revision is None or _is_older(state.revision):
        return "its tables are not this release's: run `scoreboard migrate`"
    if state.closed_tables:
        return f"the role may not read and write {', '.join(state.closed_tables)}"
    return None


@cache
def _older_revisions() -> frozenset[str]:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    return frozenset(script.revision for script in scripts.walk_revisions() if script.revision != head)


def _is_older(revision: str) -> bool:
    # One that is not known here is a newer release's, which has migrated and is about to take over.
    return revision in _older_revisions()
