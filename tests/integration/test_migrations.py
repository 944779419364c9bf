"""The migrations make the schema that the tables describe."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from scoreboard.local import LocalServers
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.upkeep.housekeeping import make_partitions
from scoreboard.store import users
from scoreboard.store.actions import get_actions
from scoreboard.store.audit_trail import AuditFilter, list_events
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.fitness import SCRIPTS
from scoreboard.store.migrate import upgrade
from scoreboard.store.settlements import find_unannounced
from scoreboard.store.tables import metadata
from tests.integration.conftest import add_accepted, add_user
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


def test_flags_under_a_ban_and_old_audit_rows_outlive_the_upgrade(
    local_servers: LocalServers, catalogue: Catalogue
) -> None:
    """Data of the last release, while its code still writes; and back again."""
    url = fresh_database(local_servers.database_url).replace("postgresql://", "postgresql+psycopg2://")
    upgrade(url, "0002")
    database = Database(make_engine(url, 4, name="test"))
    ids = {name: uuid4() for name in ("plain", "flagged", "cleared")}
    with database.write() as connection:
        for name, user_id in ids.items():
            connection.execute(sa.text(_INSERT_BANNED), {"id": user_id, "name": name})
            events = {"plain": [], "flagged": ["flagged"], "cleared": ["flagged", "cleared"]}[name]
            for event in [*events, "banned"]:
                connection.execute(sa.text(_INSERT_EVENT), {"event": f"user.{event}", "id": user_id})
        connection.execute(sa.text(_INSERT_EVENT), {"event": "action.applied", "id": ids["plain"]})
    upgrade(url)
    upgrade(url)
    make_partitions(database, datetime.now(UTC))
    with database.write() as connection:
        found = {name: users.get_user(connection, user_id) for name, user_id in ids.items()}
        # The last release goes on for a while: it knows nothing of the new columns.
        connection.execute(sa.text(_INSERT_BANNED), {"id": uuid4(), "name": "new of old"})
        connection.execute(sa.text("INSERT INTO settlements (id, action_ids) VALUES (:id, '{}')"), {"id": uuid4()})
    assert {name: user and user.status_before_ban for name, user in found.items()} == {
        "plain": None,
        "flagged": "flagged",
        "cleared": None,
    }
    player = add_user(database)
    settle_actions(database, catalogue, [add_accepted(database, player.id)])
    with database.read() as connection:
        shown = list_events(connection, AuditFilter(event="action.applied"), after=None, limit=10)
    assert [event.target_id for event, _ in shown] == [player.id, ids["plain"]]
    engine = make_engine(url, 1, name="test")
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        connection.commit()
        told = connection.execute(sa.text("SELECT target_id FROM audit_log WHERE event = 'action.applied' ORDER BY id"))
        assert told.scalars().all() == [ids["plain"], player.id]
    engine.dispose()
    database.dispose()


_INSERT_BANNED = """
    INSERT INTO users (id, username, username_key, email, email_key, password_hash, score_reached_at, ledger_hash,
                       status)
    VALUES (:id, :name, :name, :name, :name, 'none', now(), '', 'banned')
    """
_INSERT_EVENT = """
    INSERT INTO audit_log (event, actor_id, target_id, result, details) VALUES (:event, :id, :id, 'success', '{}')
    """


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
