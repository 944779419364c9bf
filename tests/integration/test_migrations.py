"""The migrations make the schema that the tables describe."""

from __future__ import annotations

import threading
from uuid import uuid4

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from scoreboard.local import LocalServers
from scoreboard.store.actions import get_actions
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.migrate import upgrade
from scoreboard.store.settlements import find_unannounced
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


def test_rows_settled_before_there_were_settlements_keep_their_ranks_or_are_told(local_servers: LocalServers) -> None:
    url = fresh_database(local_servers.database_url).replace("postgresql://", "postgresql+psycopg2://")
    upgrade(url, "0001")
    database = Database(make_engine(url, 1, name="test"))
    told, untold = uuid4(), uuid4()
    with database.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO users (id, username, username_key, email, email_key, password_hash, score_reached_at, "
                "ledger_hash) VALUES (:user, 'a', 'a', 'a', 'a', 'none', now(), '')"
            ),
            {"user": uuid4()},
        )
        connection.execute(
            sa.text(
                "INSERT INTO actions (id, user_id, action_type, metadata, token_hash, state, issued_at, expires_at, "
                "accepted_at, settled_at, announced_at, previous_rank, rank) "
                "SELECT new.id, users.id, 'A', '{}', CAST(CAST(new.id AS text) AS bytea), 'applied', now(), now(), "
                "now(), now() - interval '1 minute', new.at, new.previous_rank, new.rank FROM users, (VALUES "
                "(CAST(:told AS uuid), now(), 7, 3), (:untold, NULL, NULL, NULL)) AS new (id, at, previous_rank, rank)"
            ),
            {"told": told, "untold": untold},
        )
    upgrade(url)
    with database.read() as connection:
        assert [each.action_ids for each in find_unannounced(connection, older_than_s=3, limit=10)] == [[untold]]
        found = {each.id: (each.previous_rank, each.rank) for each in get_actions(connection, [told, untold])}
    assert found == {told: (7, 3), untold: (None, None)}
    database.dispose()
