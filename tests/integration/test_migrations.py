"""The migrations make the schema that the tables describe."""

from __future__ import annotations

import threading

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from scoreboard.local import LocalServers
from scoreboard.store.engine import Database
from scoreboard.store.migrate import upgrade
from scoreboard.store.tables import metadata
from tests.service import fresh_database


def test_the_migrated_schema_is_the_one_in_the_tables(database: Database) -> None:
    with database.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    # The monthly partitions of the ledger belong to it and to no table of ours.
    unexpected = [each for each in differences if "score_history_" not in str(each)]
    assert unexpected == []


def test_several_migrators_at_once_do_it_once(local_servers: LocalServers) -> None:
    url = fresh_database(local_servers.database_url).replace("postgresql://", "postgresql+psycopg2://")
    failures: list[BaseException] = []

    def migrate() -> None:
        try:
            upgrade(url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    engine.dispose()
