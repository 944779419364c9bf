"""An admin's change whose answer was lost is sent again: under its key it happens once."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from tests.functional.client import Admin, Json, Player, assert_refused, create_staff, data_of, in_parallel, register
from tests.service import Service

USERS = "/v1/admin/users"
REBUILD = "/v1/admin/leaderboard/rebuild"


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


def change(admin: Admin, player: Player, action: str, key: str, **body: object) -> httpx.Response:
    fields = {"reason": "a test", **body}
    return admin.api.call("POST", f"{USERS}/{player.id}/{action}", json=fields, headers={"Idempotency-Key": key})


def events_of(admin: Admin, player: Player) -> list[str]:
    items = data_of(admin.api.get("/v1/admin/audit", userId=player.id, limit=100))["items"]
    return [item["event"] for item in items if item["event"] != "user.registered"]


def new_key() -> str:
    return uuid4().hex


def test_an_adjustment_sent_again_adds_once_and_gets_the_first_answer(admin: Admin, player: Player) -> None:
    key = new_key()
    first = change(admin, player, "adjust", key, amount=7)
    assert data_of(first)["score"] == 7
    data_of(change(admin, player, "adjust", new_key(), amount=5))
    again = change(admin, player, "adjust", key, amount=7)
    assert (again.status_code, again.json()) == (200, first.json())
    assert player.score()["score"] == 12
    assert events_of(admin, player) == ["score.adjusted"] * 2


def test_of_many_at_once_one_acts(admin: Admin, player: Player) -> None:
    key = new_key()
    answers = in_parallel([lambda: change(admin, player, "adjust", key, amount=3)] * 12)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert player.score()["score"] == 3
    assert len(player.history()) == 1


def test_each_change_is_repeated_as_it_was_answered(admin: Admin, player: Player) -> None:
    keys = {action: new_key() for action in ("flag", "clear", "ban", "unban")}
    firsts = {action: change(admin, player, action, key) for action, key in keys.items()}
    assert [data_of(first)["status"] for first in firsts.values()] == ["flagged", "active", "banned", "active"]
    # Each of these would be a change by now.
    for action, key in keys.items():
        assert change(admin, player, action, key).json() == firsts[action].json()
    assert data_of(admin.api.get(f"{USERS}/{player.id}"))["status"] == "active"
    assert sorted(events_of(admin, player)) == ["user.banned", "user.cleared", "user.flagged", "user.unbanned"]


def test_a_rebuild_is_ordered_once(admin: Admin) -> None:
    key = {"Idempotency-Key": new_key()}
    for _ in range(2):
        assert data_of(admin.api.post(REBUILD, None, **key), 202) == {"status": "started"}
    wanted = {"event": "leaderboard.rebuild_requested", "userId": admin.id}
    assert len(data_of(admin.api.get("/v1/admin/audit", **wanted))["items"]) == 1


def test_another_request_under_a_used_key_is_refused_and_changes_nothing(
    service: Service, admin: Admin, player: Player
) -> None:
    key, other = new_key(), register(service.url)
    first = change(admin, player, "adjust", key, amount=7)
    changed: list[tuple[Player, str, Json]] = [
        (player, "adjust", {"amount": 8}),
        (player, "adjust", {"amount": 7, "reason": "another"}),
        (other, "adjust", {"amount": 7}),
        (player, "ban", {}),
    ]
    for whom, action, body in changed:
        assert_refused(change(admin, whom, action, key, **body), 422, "IDEMPOTENCY_MISMATCH")
    assert_refused(admin.api.post(REBUILD, None, **{"Idempotency-Key": key}), 422, "IDEMPOTENCY_MISMATCH")
    assert (player.score()["score"], other.score()["score"]) == (7, 0)
    assert change(admin, player, "adjust", key, amount=7).json() == first.json()


def test_the_same_fields_written_otherwise_are_the_same_request(admin: Admin, player: Player) -> None:
    key = new_key()
    first = change(admin, player, "adjust", key, amount=7)
    written = '{ "reason":"a\\u0020test",\n "amount": 7 }'
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    again = admin.api.call("POST", f"{USERS}/{player.id}/adjust", content=written, headers=headers)
    assert again.json() == first.json()


def test_a_key_is_its_admins_own(service: Service, admin: Admin, player: Player) -> None:
    key = new_key()
    data_of(change(admin, player, "adjust", key, amount=7))
    data_of(change(create_staff(service), player, "adjust", key, amount=7))
    assert player.score()["score"] == 14


def test_a_refused_request_leaves_its_key_unused(admin: Admin, player: Player) -> None:
    key = new_key()
    assert_refused(change(admin, player, "adjust", key, amount=-1), 400, "VALIDATION_FAILED", "amount")
    assert data_of(change(admin, player, "adjust", key, amount=1))["score"] == 1


def test_a_key_is_forgotten_after_a_day(service: Service, admin: Admin, player: Player) -> None:
    key = new_key()
    data_of(change(admin, player, "adjust", key, amount=7))
    engine = sa.create_engine(service.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        aged = "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = :key"
        connection.execute(sa.text(aged), {"key": key})
    engine.dispose()
    assert data_of(change(admin, player, "adjust", key, amount=8))["score"] == 15


@pytest.mark.parametrize("key", ["", "x" * 65, "tab\tinside", "caf\xe9"])
def test_a_bad_key_is_refused(admin: Admin, player: Player, key: str) -> None:
    response = admin.api.http.post(
        f"{USERS}/{player.id}/adjust",
        json={"amount": 1, "reason": "a test"},
        headers=[
            (b"Idempotency-Key", key.encode("latin-1")),
            (b"Authorization", admin.api.headers["Authorization"].encode()),
        ],
    )
    assert_refused(response, 400, "VALIDATION_FAILED", "Idempotency-Key")
    assert player.score()["score"] == 0


# -- undoing restores what was ------------------------------------------------------------


def test_a_flag_set_during_a_ban_is_there_after_it(admin: Admin, player: Player) -> None:
    admin.act(player.id, "ban")
    assert [admin.act(player.id, "flag")["status"] for _ in range(2)] == ["banned", "banned"]
    assert admin.act(player.id, "unban")["status"] == "flagged"
    assert sorted(events_of(admin, player)) == ["user.banned", "user.flagged", "user.unbanned"]


def test_an_unban_brings_the_flag_back(admin: Admin, player: Player) -> None:
    admin.act(player.id, "flag")
    for _ in range(2):
        assert admin.act(player.id, "ban")["status"] == "banned"
    assert admin.act(player.id, "unban")["status"] == "flagged"
    assert admin.act(player.id, "clear")["status"] == "active"
    admin.act(player.id, "ban")
    assert admin.act(player.id, "unban")["status"] == "active"


def test_a_flag_cleared_while_banned_does_not_come_back(admin: Admin, player: Player) -> None:
    admin.act(player.id, "flag")
    admin.act(player.id, "ban")
    assert admin.act(player.id, "clear")["status"] == "banned"
    assert admin.act(player.id, "unban")["status"] == "active"
    assert sorted(events_of(admin, player)) == ["user.banned", "user.cleared", "user.flagged", "user.unbanned"]
