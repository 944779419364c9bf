"""Statements of the request path and of settling find their rows by key, also in a database that was never analysed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from scoreboard.local import LocalServers
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.store import intake, settlements
from scoreboard.store.engine import Database, make_engine
from scoreboard.store.prepared import array, text_array, uuid_array
from tests.integration.conftest import Accepted, add_accepted, add_user, migrated_database
from tests.integration.test_intake import completion, issue_all, sign_in, wanted

ROWS = 8


@pytest.fixture
def as_served(local_servers: LocalServers) -> Iterator[Database]:
    """Connections as the processes make them, to a new database whose actions are never analysed."""
    url = migrated_database(local_servers)
    made = Database(
        make_engine(url, 2, name="test"),
        autocommitting=make_engine(url, 1, name="test", is_autocommit=True, is_for_lookups=True),
    )
    with made.autocommit() as connection:
        connection.exec_driver_sql("ALTER TABLE actions SET (autovacuum_enabled = false)")
    yield made
    made.dispose()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans_of(table: str, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    # A bitmap's own node has the index and no table.
    return [node for node in found if node.get("Relation Name") == table and node["Node Type"].endswith("Scan")]


def explain(connection: sa.Connection, statement: str, arguments: Sequence[object], *, analyze: bool) -> list[Any]:
    places = ", ".join(["%s"] * len(arguments))
    options = f"ANALYZE {str(analyze).lower()}, FORMAT JSON"
    ((found,),) = connection.exec_driver_sql(f"EXPLAIN ({options}) EXECUTE {statement} ({places})", tuple(arguments))
    return list(nodes(found[0]["Plan"]))


def test_each_callers_right_is_checked_once_and_actions_are_found_by_key(as_served: Database) -> None:
    issues = [wanted(sign_in(as_served)) for _ in range(ROWS)]
    issue_all(as_served, *issues)
    completions = [completion(issue) for issue in issues]
    arguments = (
        uuid_array([each.caller.session_id for each in completions]),
        uuid_array([each.caller.user_id for each in completions]),
        array([each.caller.role.value for each in completions]),
        array([each.caller.status.value for each in completions]),
        uuid_array([each.action_id for each in completions]),
        uuid_array([each.user_id for each in completions]),
        array([each.token_hash.hex() for each in completions]),
        array([each.completion_time_ms for each in completions]),
        array([None for _ in completions]),
        text_array([each.data for each in completions]),
        array([each.body_digest.hex() for each in completions]),
        array([each.ip for each in completions]),
        text_array([each.user_agent for each in completions]),
        # Each asks for the next action too.
        array([each.next_id for each in completions]),
        "{}",
        text_array(["SOLVE_PROBLEM" for _ in completions]),
        text_array(["{}" for _ in completions]),
        array([uuid4().hex for _ in completions]),
        array([60 for _ in completions]),
        100,
    )
    with as_served.autocommit() as connection:
        # Prepares it; none of these is issued.
        assert intake.accept(connection, [completion(wanted(issues[0].caller))], max_open=100) == {}
        found = explain(connection, "accept_actions", arguments, analyze=True)
    assert [node["Actual Loops"] for node in scans_of("sessions", found)] == [ROWS]
    actions = scans_of("actions", found)
    assert actions
    assert not [node for node in actions if node["Node Type"] == "Seq Scan"]
    of_all_players = [node for node in found if node.get("Index Name") == "ix_actions_open"]
    assert all("user_id" in node.get("Index Cond", "") for node in of_all_players), of_all_players


@pytest.mark.parametrize("others", [0, 300, 350, 2_000])
def test_a_players_open_actions_are_counted_without_those_of_others(as_served: Database, others: int) -> None:
    caller = sign_in(as_served)
    with as_served.write() as connection:
        # At some hundred rows the index by time is a level lower than the one by players.
        connection.exec_driver_sql(
            "INSERT INTO actions (id, user_id, action_type, metadata, token_hash, issued_at, expires_at) "
            "SELECT gen_random_uuid(), %s, 'SOLVE_PROBLEM', '{}', 'x', now(), "
            "now() + number * interval '1 ms' + interval '1 minute' "
            "FROM generate_series(1, %s) AS number",
            (add_user(as_served).id, others),
        )
    issue = wanted(caller)
    with as_served.autocommit() as connection:
        assert len(intake.issue(connection, [issue], max_open=5)) == 1
        assert intake.accept(connection, [completion(issue)], max_open=5)
        for statement in (intake._ISSUE, intake._ACCEPT):
            arguments = [None] * len(statement.source.types)
            found = explain(connection, statement.source.name, arguments, analyze=False)
            indexes = {node.get("Index Name") for node in found}
            assert "ix_actions_open" in indexes
            assert "ix_actions_expiring" not in indexes


def test_settling_reads_no_more_than_its_own_actions(as_served: Database, catalogue: Catalogue) -> None:
    player = add_user(as_served)
    ids = [add_accepted(as_served, player.id, Accepted("SOLVE_PROBLEM")) for _ in range(ROWS)]
    assert len(settle_actions(as_served, catalogue, ids)) == ROWS
    # One connection has prepared them all, and keeps their plans.
    with as_served.write() as connection:
        settlements.lock_accepted(connection, ids)
        types = {"lock_accepted": 1, "write_settlement": len(settlements._WRITE.source.types)}
        for name, count in types.items():
            found = explain(connection, name, [None] * count, analyze=False)
            scans = scans_of("actions", found)
            assert scans, name
            assert not [node for node in scans if node["Node Type"] == "Seq Scan"], name
