"""Hostile text in every string of every operation: nothing fails, nothing else happens, and it comes back as it was."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa

from scoreboard.store.tables import metadata as schema
from tests.functional.client import (
    PASSWORD,
    Admin,
    Api,
    Json,
    Player,
    assert_refused,
    board,
    completion,
    create_staff,
    data_of,
    login,
    new_name,
    pages,
    register,
    registration,
)
from tests.functional.contract import Operation, contract_of
from tests.security.pages_payloads import HIDDEN, HTML, SQL, TEMPLATES, TEXTS, TURNING
from tests.service import Service

REASON = {"reason": "a test"}
Path = tuple[str, ...]


class World:
    """Somebody who may do everything, somebody whom it is done to, and what must be the same before and after."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.admin: Admin = create_staff(service)
        self.game_server = create_staff(service, "system")
        self.victim: Player = register(service.url)
        self.player: Player = register(service.url)
        self.witness: Player = register(service.url)
        self.admin.adjust(self.witness, 41)
        self.open_action: Json = {}
        url = service.database_url.replace("postgresql://", "postgresql+psycopg2://")
        self.engine = sa.create_engine(url)

    def base(self, operation: Operation) -> Json:
        """A body that this operation would take."""
        path = operation.path
        if path == "/v1/actions/complete":
            # One for all: hostile text in the proof breaks its checksum. Elsewhere it completes the action, once.
            self.open_action = self.open_action or self.player.request_action()
            next_one = {"actionType": "SOLVE_PROBLEM", "metadata": {"problem": "P"}}
            return completion(self.open_action, data="data", next=next_one)
        if path == "/v1/system/actions":
            return {"actions": [self.finished_action()]}
        bodies: dict[str, Json] = {
            "/v1/auth/register": registration(),
            "/v1/auth/login": {"username": self.victim.username, "password": PASSWORD},
            "/v1/auth/refresh": {"refreshToken": "none"},
            "/v1/actions/request": {"actionType": "SOLVE_PROBLEM", "metadata": {"problem": "P"}},
            "/v1/admin/users/{userId}/adjust": {"amount": 1, **REASON},
        }
        if path.startswith("/v1/admin/users/"):
            return bodies.get(path, dict(REASON))
        return bodies[path]

    def finished_action(self) -> Json:
        moment = datetime.now(UTC).isoformat()
        what = {"actionType": "SOLVE_PROBLEM", "metadata": {"problem": "P"}, "data": "data"}
        return {
            "externalId": new_name(""),
            "userId": self.player.id,
            "startedAt": moment,
            "completedAt": moment,
            **what,
        }

    def caller(self, operation: Operation) -> Api:
        if operation.path.startswith("/v1/system/"):
            return self.game_server.api
        if operation.path == "/v1/actions/complete":
            return self.player.api
        return Api(self.service.url) if operation.path.startswith("/v1/auth/") else self.admin.api

    def path(self, operation: Operation) -> str:
        return operation.path.replace("{userId}", self.victim.id).replace("{actionId}", self.victim.id)

    def snapshot(self) -> list[object]:
        with self.engine.connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
            admins = connection.scalar(sa.text("SELECT count(*) FROM users WHERE role = 'admin'"))
        witness = data_of(self.admin.api.get(f"/v1/admin/users/{self.witness.id}"))
        return [tables >= set(schema.tables), admins, witness, self.witness.history(), login_works(self.witness)]

    def scalar(self, statement: str, **values: object) -> Any:
        with self.engine.connect() as connection:
            return connection.scalar(sa.text(statement), values)


def login_works(player: Player) -> bool:
    return login(player.url, player.username, player.password).id == player.id


# Some of each kind, for every field; fields that are stored get all of them below.
PROBES = [*SQL[:2], SQL[7], HTML[0], TEMPLATES[0], HIDDEN[1], *HIDDEN[-2:]]


@pytest.fixture(scope="module")
def world(service: Service) -> Iterator[World]:
    world = World(service)
    before = world.snapshot()
    yield world
    assert world.snapshot() == before
    world.engine.dispose()


# -- every field -----------------------------------------------------------------------------


def string_fields(document: Json, shape: Json, at: Path = ()) -> Iterator[Path]:
    """Where a schema takes text: fields, fields of fields, and objects with whatever keys one likes."""
    if "$ref" in shape:
        shape = document["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
    for each in shape.get("anyOf", []):
        yield from string_fields(document, each, at)
    if shape.get("type") == "string":
        yield at
    if shape.get("type") == "array":
        yield from string_fields(document, shape["items"], (*at, "<first>"))
    if shape.get("type") == "object" and "properties" not in shape:
        yield from ((*at, "<key>"), (*at, "problem"))
    for name, inner in shape.get("properties", {}).items():
        yield from string_fields(document, inner, (*at, name))


def fields_of(document: Json, operation: Operation) -> list[Path]:
    """The places for text in a request of this operation; the first part says where: path, query or body."""
    found: list[Path] = [(each["in"], each["name"]) for each in operation.spec.get("parameters", [])]
    if body := operation.spec.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        found += [("body", *path) for path in string_fields(document, schema)]
    return found


def send(world: World, operation: Operation, field: Path, text: str) -> httpx.Response:
    """The operation with this text in this place; its answer was checked against the description."""
    api, path = world.caller(operation), world.path(operation)
    where, *names = field
    body = world.base(operation) if "requestBody" in operation.spec else None
    if where == "path":
        path = operation.path.replace(f"{{{names[0]}}}", quote(text, safe=""))
    if where == "body":
        assert body is not None
        put(body, names, text)
    query = {names[0]: text} if where == "query" else None
    if operation.path.endswith("/stream"):
        return stream(world.service.url + path, query)
    return api.call(operation.method, path, json=body, params=query)


def stream(url: str, query: Json | None) -> httpx.Response:
    """The answer's head; a stream that opens goes on for ever."""
    with httpx.stream("GET", url, params=query, timeout=30) as answer:
        if answer.status_code != 200:
            answer.read()
        return answer


def put(body: Any, names: list[str], text: str) -> None:
    for name in names[:-1]:
        body = body[0] if name == "<first>" else body[name]
    if names[-1] == "<key>":
        body[text] = text
    else:
        body[names[-1]] = text


def test_hostile_text_in_any_field_is_refused_or_taken_as_text(world: World) -> None:
    """The fields come from the description: a new one is tried without a word here."""
    contract = contract_of(world.service.url)
    tried = 0
    for operation in contract.operations:
        for field in fields_of(contract.document, operation):
            for text in PROBES:
                answer = send(world, operation, field, text)
                assert answer.status_code < 500, f"{operation.method} {operation.path} {field} {text!r}"
                tried += 1
    assert tried > 40 * len(PROBES)


def test_the_fields_are_all_there(world: World) -> None:
    """The walk through the description finds what is known to be text."""
    contract = contract_of(world.service.url)
    found = {
        (operation.path, ".".join(field))
        for operation in contract.operations
        for field in fields_of(contract.document, operation)
    }
    assert found >= {
        ("/v1/auth/register", "body.username"),
        ("/v1/auth/register", "body.email"),
        ("/v1/auth/refresh", "body.refreshToken"),
        ("/v1/actions/request", "body.metadata.<key>"),
        ("/v1/actions/request", "body.onBehalfOf"),
        ("/v1/actions/complete", "body.proof.data"),
        ("/v1/actions/complete", "body.actionId"),
        ("/v1/actions/complete", "body.next.metadata.<key>"),
        ("/v1/system/actions", "body.actions.<first>.externalId"),
        ("/v1/system/actions", "body.actions.<first>.data"),
        ("/v1/actions/{actionId}", "path.actionId"),
        ("/v1/leaderboard/stream", "query.ticket"),
        ("/v1/admin/users", "query.q"),
        ("/v1/admin/audit", "query.since"),
        ("/v1/admin/users/{userId}/ban", "body.reason"),
    }


# -- it comes back as it was --------------------------------------------------------------------


def honest(text: str) -> str:
    """A name that nobody else has, with this text in it; a name has at most 50 characters."""
    return f"{text[:40].strip()} {new_name('')[-6:]}"


@pytest.mark.parametrize("text", [*SQL, *HTML, *TEMPLATES])
def test_a_name_comes_back_everywhere_as_it_was_given(world: World, text: str) -> None:
    name = honest(text)
    player = register(world.service.url, username=name)
    assert player.username == unicodedata.normalize("NFC", name)
    assert player.score()["username"] == player.username
    world.admin.adjust(player, 1_000_000)
    (row,) = [row for row in board(Api(world.service.url)) if row["userId"] == player.id]
    assert row["username"] == player.username
    assert [user["id"] for user in pages(world.admin.api, "/v1/admin/users", q=player.username)] == [player.id]
    assert login(world.service.url, player.username).id == player.id
    world.admin.adjust(player, -1_000_000)
    assert world.scalar("SELECT username FROM users WHERE id = :id", id=player.id) == player.username


@pytest.mark.parametrize("text", HIDDEN)
def test_a_name_with_what_nobody_sees_is_refused(world: World, text: str) -> None:
    assert_refused(
        Api(world.service.url).post("/v1/auth/register", registration(username=text)),
        400,
        "VALIDATION_FAILED",
        "username",
    )


def test_a_search_takes_its_text_as_text(world: World) -> None:
    end = new_name("")[-6:]
    names = [f"100% {end}", f"100_ {end}", f"100\\ {end}", f"100x {end}"]
    ids = {name: register(world.service.url, username=name).id for name in names}
    for name in names:
        assert [user["id"] for user in pages(world.admin.api, "/v1/admin/users", q=name)] == [ids[name]]
    assert pages(world.admin.api, "/v1/admin/users", q=f"%{end}") == []
    assert pages(world.admin.api, "/v1/admin/audit", event="user.%") == []


def test_passwords_and_addresses_are_taken_as_they_are(world: World) -> None:
    # A selection: each costs four hashes of a password.
    for number, text in enumerate([*SQL[::3], *HTML[::5], *HIDDEN]):
        password = f"{text} and more"
        address = f"o'brien+{number}.{new_name('')[-6:]}@example.com"
        player = register(world.service.url, password=password, email=address)
        assert login(world.service.url, player.username, password).id == player.id
        wrong = {"username": player.username, "password": f"{text} and mor"}
        assert_refused(Api(world.service.url).post("/v1/auth/login", wrong), 401, "INVALID_CREDENTIALS")
        assert data_of(world.admin.api.get(f"/v1/admin/users/{player.id}"))["email"] == address


def test_reasons_and_user_agents_are_recorded_as_they_were_given(world: World) -> None:
    player = register(world.service.url)
    texts = [text for text in TEXTS if text not in TURNING]
    for text in texts:
        world.admin.act(player.id, "adjust", amount=1, reason=text)
    for text in TURNING:
        refused = world.admin.api.post(f"/v1/admin/users/{player.id}/adjust", {"amount": 1, "reason": text})
        assert_refused(refused, 400, "VALIDATION_FAILED", "reason")
    events = pages(world.admin.api, "/v1/admin/audit", userId=player.id, event="score.adjusted")
    assert [event["details"]["reason"] for event in reversed(events)] == texts
    assert [item["reason"] for item in reversed(player.history())] == texts

    # A few: each refused login costs the hash of a password.
    agents = [text for text in texts if text.isascii() and text.isprintable()][::4]
    for agent in agents:
        Api(world.service.url, **{"User-Agent": agent}).post(
            "/v1/auth/login", {"username": player.username, "password": "not the pass phrase"}
        )
    events = pages(world.admin.api, "/v1/admin/audit", userId=player.id, event="user.login_failed")
    assert [event["userAgent"] for event in reversed(events)] == agents


def test_metadata_and_data_are_stored_as_they_were_sent(world: World) -> None:
    player = register(world.service.url)
    for text in TEXTS:
        if "\0" in text:
            continue
        action = player.request_action(metadata={"problem": text[:50]})
        sent = completion(action, data=text)
        assert player.send(sent, wait_s=None).status_code == 202
        stored = "SELECT metadata ->> 'problem' FROM actions WHERE id = :id"
        assert world.scalar(stored, id=action["actionId"]) == text[:50]
        assert world.scalar("SELECT data FROM actions WHERE id = :id", id=action["actionId"]) == text


def test_the_books_still_balance(world: World) -> None:
    """After all of the above: ledger, scores and board agree, by the command that proves it."""
    done = world.service.run("verify")
    assert done.returncode == 0, done.stdout
