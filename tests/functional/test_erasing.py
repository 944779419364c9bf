"""What docs/operations.md tells operators to run when a person asks to be forgotten."""

from __future__ import annotations

from contextlib import closing

import psycopg2
from psycopg2.extensions import cursor

from config import ROOT
from tests.conftest import StartService
from tests.functional import client
from tests.functional.client import completion, eventually
from tests.snippets import texts

TABLES = ("users", "sessions", "actions", "score_history", "audit_log")
BROWSER = "Somebody's own browser"


def test_an_erased_player_leaves_points_and_nothing_personal(start_service: StartService) -> None:
    service = start_service()
    admin, other = client.create_staff(service), client.register(service.url)
    player = client.register(service.url)
    player.api.headers["User-Agent"] = BROWSER
    player.send(completion(player.request_action(metadata={"problem": "my name"}), data="my own words"))
    admin.act(player.id, "ban")
    (statements,) = texts(ROOT / "docs/operations.md", "Erasing a player", "sql")
    with closing(psycopg2.connect(service.database_url)) as connection, connection.cursor() as session:
        session.execute(statements.replace(":'player'", f"'{player.id}'"))
        left = "\n".join(_rows(session, table) for table in TABLES)
    for personal in (player.username, player.email, BROWSER, "my name", "my own words"):
        assert personal not in left, personal
    assert player.id in left
    assert other.username in left
    verified = eventually(lambda: service.run("verify"), lambda run: run.returncode == 0, 90)
    assert "all is well" in verified.stdout
    refused = client.Api(service.url).post("/v1/auth/login", {"username": player.username, "password": player.password})
    client.assert_refused(refused, 401, "INVALID_CREDENTIALS")


def _rows(session: cursor, table: str) -> str:
    session.execute(f"SELECT row_to_json(t)::text FROM {table} t")
    return "\n".join(row for (row,) in session)
