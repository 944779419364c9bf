"""Bringing the schema up to date with Alembic; safe to call from several processes at once."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from scoreboard.store.engine import make_engine

_SCRIPTS = Path(__file__).parent / "migrations"
# Any number, the same everywhere: names the migrators' lock among Postgres' advisory locks.
_LOCK = 0x5C0_3116


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing. Raises SQLAlchemy's OperationalError when Postgres is down."""
    engine = make_engine(database_url, 1, name="migrate")
    try:
        with engine.connect() as connection:
            # A release phase and a web process that start together must not both migrate.
            connection.execute(sa.text("SET lock_timeout = 0"))
            connection.execute(sa.text("SET statement_timeout = 0"))
            connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
            connection.commit()
            config = Config()
            config.set_main_option("script_location", str(_SCRIPTS))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            connection.commit()
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
            connection.commit()
    finally:
        engine.dispose()
