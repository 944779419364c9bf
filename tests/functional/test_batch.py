"""Finished actions of many players in one call of a game server: each row by itself, each external id once."""

from __future__ import annotations

import gzip
from functools import partial

import pytest

from tests.functional.batches import PATH, lines_of, moment, row, said, send, send_lines, settled
from tests.functional.client import (
    Admin,
    Api,
    Json,
    Player,
    assert_refused,
    completion,
    create_staff,
    data_of,
    eventually,
    in_parallel,
    pages,
    register,
)
from tests.service import Service

_APPLIED = ("applied", None)
_UNKNOWN = "01a2a6f0-5d6b-7c3a-9a52-0d6f3b1c7e42"


@pytest.fixture(scope="module")
def server(service: Service) -> Admin:
    return create_staff(service, "system")


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


# -- outcomes -----------------------------------------------------------------------


def test_a_batch_of_many_players_is_settled_row_by_row(service: Service, server: Player) -> None:
    players = [register(service.url) for _ in range(3)]
    rows = [
        row(players[0]),
        row(players[1], actionType="COMPLETE_LEVEL", metadata={"difficulty": "easy"}, took_s=3.0),
        row(players[2], actionType="FINISH_ROUND", points=42, data="lap 3"),
        row(players[0], ago_s=20.0),
    ]
    answer = send(server, rows)
    items = data_of(answer)["items"]
    assert answer.headers["Preference-Applied"] == "wait=10"
    assert said(items) == [_APPLIED] * 4
    assert [item["index"] for item in items] == [0, 1, 2, 3]
    assert [item["externalId"] for item in items] == [each["externalId"] for each in rows]
    assert [item["scoreIncrement"] for item in items] == [1, 10, 42, 1]
    assert [items[0]["newScore"], items[3]["newScore"]] == [1, 2]
    assert all(item["statusUrl"] == f"/v1/actions/{item['actionId']}" for item in items)
    assert [each.score()["score"] for each in players] == [2, 10, 42]
    shown = server.action(items[2]["actionId"])
    assert (shown["actionType"], shown["status"], shown["data"]) == ("FINISH_ROUND", "applied", "lap 3")
    assert players[2].action(items[2]["actionId"])["scoreIncrement"] == 42


def test_without_prefer_the_answer_is_202_and_the_outcome_comes_later(server: Player, player: Player) -> None:
    sent = row(player)
    answer = send(server, [sent], wait_s=None)
    (item,) = data_of(answer, 202)["items"]
    assert "Preference-Applied" not in answer.headers
    assert (item["status"], item["reason"], item["scoreIncrement"]) == ("accepted", None, None)
    assert player.settled_action(item["actionId"])["status"] == "applied"
    (again,) = eventually(
        lambda: send(server, [sent], wait_s=None).json()["data"]["items"], lambda items: items[0]["status"] == "applied"
    )
    assert (again["actionId"], again["newScore"]) == (item["actionId"], 1)


def test_while_nobody_settles_the_wait_ends_in_202(service: Service, server: Player, player: Player) -> None:
    sent = [row(player), row(_UNKNOWN)]
    with service.frozen_worker():
        answer = send(server, sent, wait_s=1)
        accepted, refused = data_of(answer, 202)["items"]
        assert answer.headers["Preference-Applied"] == "wait=1"
        assert (accepted["status"], refused["error"]["code"]) == ("accepted", "NOT_FOUND")
    assert player.settled_action(accepted["actionId"])["status"] == "applied"


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_batch_is_taken_in_whole_when_its_account_has_just_changed(
    service: Service, admin: Admin, player: Player, kind: str
) -> None:
    own_server = create_staff(service, "system")
    # Each process remembers the account as it was.
    in_parallel([partial(settled, own_server, row(player, ago_s=100.0 * nth)) for nth in range(1, 9)])
    admin.act(own_server.id, "flag")
    rows = [row(player, ago_s=1_000 + 100.0 * nth) for nth in range(4)]
    for sent in rows:
        is_json = kind == "application/json"
        answer = send(own_server, [sent]) if is_json else send_lines(own_server, lines_of([sent]))
        assert said(data_of(answer)["items"]) == [_APPLIED]
    assert player.score()["score"] == 12


def test_rules_judge_by_the_game_servers_times(server: Player, player: Player) -> None:
    level = partial(row, player, actionType="COMPLETE_LEVEL", metadata={"difficulty": "easy"})
    items = settled(
        server,
        level(ago_s=100, took_s=0.4),
        level(ago_s=200, took_s=301.0),
        level(ago_s=300, took_s=3.0),
        *(row(player, ago_s=1_000 + 0.5 * nth) for nth in reversed(range(9))),
    )
    assert said(items) == [("rejected", "COMPLETION_TIME")] * 2 + [_APPLIED] * 9 + [("held", "BURST")]
    details = items[0]["reasonDetails"]
    assert (details["clock"], details["bound"], details["boundMs"]) == ("server", "minimum", 1000)
    assert details["actualMs"] == pytest.approx(400, abs=2)


def test_a_backlog_of_a_day_counts_and_the_board_has_the_time_of_acceptance(server: Player, player: Player) -> None:
    before = moment()
    items = settled(server, *(row(player, ago_s=3_600.0 * hour + 60) for hour in range(20)))
    assert said(items) == [_APPLIED] * 20
    score = player.score()
    assert (score["score"], score["totalActions"]) == (20, 20)
    assert score["lastUpdated"] >= before
    assert all(item["at"] >= before for item in player.history())


def test_what_was_applied_stands_in_the_audit_log_as_done_by_the_game_server(
    server: Player, admin: Admin, player: Player
) -> None:
    (applied,) = settled(server, row(player))
    (rejected,) = settled(server, row(player, ago_s=40, took_s=90_000.0))
    events = {
        item["details"]["actionId"]: item
        for item in pages(admin.api, "/v1/admin/audit", userId=player.id)
        if item["event"].startswith("action.")
    }
    for item, event in ((applied, "action.applied"), (rejected, "action.rejected")):
        found = events[item["actionId"]]
        assert (found["event"], found["actorId"], found["targetId"]) == (event, server.id, player.id)
        assert found["ip"] == "127.0.0.1"
    of_server = {item["details"].get("actionId") for item in pages(admin.api, "/v1/admin/audit", userId=server.id)}
    assert {applied["actionId"], rejected["actionId"]} <= of_server


# -- refusals of single rows -----------------------------------------------------------


def test_a_bad_row_never_harms_its_neighbours(service: Service, server: Player, admin: Admin, player: Player) -> None:
    banned = register(service.url)
    admin.act(banned.id, "ban")
    long_id = "x" * 129
    bad: list[tuple[object, str, str | None]] = [
        (row(_UNKNOWN), "NOT_FOUND", None),
        (row(server), "NOT_FOUND", None),
        (row(banned), "ACCOUNT_BANNED", None),
        (row("me"), "VALIDATION_FAILED", "userId"),
        (row(player, userId=None), "VALIDATION_FAILED", "userId"),
        (row(player, actionType="NOTHING"), "VALIDATION_FAILED", "actionType"),
        (row(player, actionType="COMPLETE_LEVEL"), "VALIDATION_FAILED", "metadata"),
        (row(player, actionType="COMPLETE_LEVEL", metadata={"difficulty": "no"}), "VALIDATION_FAILED", "difficulty"),
        (row(player, metadata={"a": "\x00"}), "VALIDATION_FAILED", "metadata"),
        (row(player, metadata=[]), "VALIDATION_FAILED", "metadata"),
        (row(player, points=1), "VALIDATION_FAILED", "points"),
        (row(player, actionType="FINISH_ROUND"), "VALIDATION_FAILED", "points"),
        (row(player, actionType="FINISH_ROUND", points=10**6), "SCORE_VALIDATION_FAILED", None),
        (row(player, actionType="FINISH_ROUND", points=-1), "VALIDATION_FAILED", "points"),
        (row(player, data="é" * 1_025), "VALIDATION_FAILED", "data"),
        (row(player, data="\x00"), "VALIDATION_FAILED", "data"),
        (row(player, externalId=""), "VALIDATION_FAILED", "externalId"),
        (row(player, externalId=long_id), "VALIDATION_FAILED", "externalId"),
        (row(player, externalId=17), "VALIDATION_FAILED", "externalId"),
        (row(player, externalId=None), "VALIDATION_FAILED", "externalId"),
        (row(player, unknown=1), "VALIDATION_FAILED", "unknown"),
        (row(player, ago_s=86_460), "VALIDATION_FAILED", "completedAt"),
        (row(player, ago_s=-12), "VALIDATION_FAILED", "completedAt"),
        (row(player, startedAt=moment(-1)), "VALIDATION_FAILED", "startedAt"),
        (row(player, completedAt="yesterday"), "VALIDATION_FAILED", "completedAt"),
        (row(player, completedAt="2026-11-27T10:00:00"), "VALIDATION_FAILED", "completedAt"),
        (row(player, completedAt="2026-02-30T10:00:00Z"), "VALIDATION_FAILED", "completedAt"),
        (row(player, startedAt=0), "VALIDATION_FAILED", "startedAt"),
        (row(player, startedAt="0001-01-01T00:00:00+23:59"), "VALIDATION_FAILED", "startedAt"),
        ("a text", "VALIDATION_FAILED", None),
        (None, "VALIDATION_FAILED", None),
        ([], "VALIDATION_FAILED", None),
        (17, "VALIDATION_FAILED", None),
    ]
    rows: list[object] = [row(player, ago_s=500)]
    for sent, _, _ in bad:
        rows += [sent]
    rows += [row(player, ago_s=510)]
    items = settled(server, *rows)
    assert said([items[0], items[-1]]) == [_APPLIED] * 2
    for item, sent, (_, code, field) in zip(items[1:-1], rows[1:-1], bad, strict=True):
        error = item["error"]
        assert (set(item), error["code"]) == ({"index", "externalId", "error"}, code), (sent, item)
        given = sent.get("externalId") if isinstance(sent, dict) else None
        assert item["externalId"] == (given if isinstance(given, str) and given != long_id else None)
        if field is not None:
            assert any(name.split(".")[-1] == field for name in error["details"]["fields"]), (sent, error)
    assert player.score()["score"] == 2


def test_a_single_call_and_a_row_are_refused_alike(
    service: Service, server: Player, admin: Admin, player: Player
) -> None:
    """Code, message and details, for what both check."""
    banned = register(service.url)
    admin.act(banned.id, "ban")
    for user_id in (_UNKNOWN, server.id, banned.id):
        (item,) = settled(server, row(user_id))
        body = {"actionType": "SOLVE_PROBLEM", "metadata": {}, "onBehalfOf": user_id}
        assert item["error"] == server.api.post("/v1/actions/request", body).json()["error"]
    for changes in ({"actionType": "NOTHING"}, {"actionType": "COMPLETE_LEVEL", "metadata": {"difficulty": 7}}):
        (item,) = settled(server, row(player, **changes))
        body = {"metadata": {}, "onBehalfOf": player.id, **changes}
        assert item["error"] == server.api.post("/v1/actions/request", body).json()["error"]
    (item,) = settled(server, row(player, actionType="FINISH_ROUND", points=10**6))
    action = server.request_action("FINISH_ROUND", onBehalfOf=player.id)
    body = completion(action, time_ms=1, points=10**6, onBehalfOf=player.id)
    assert item["error"] == server.send(body).json()["error"]


def test_a_refused_row_is_not_remembered(server: Player, player: Player) -> None:
    wrong = row(player, actionType="NOTHING")
    assert said(settled(server, wrong)) == [("refused", "VALIDATION_FAILED")]
    assert said(settled(server, {**wrong, "actionType": "SOLVE_PROBLEM"})) == [_APPLIED]


# -- external ids -----------------------------------------------------------------------


def test_the_same_batch_again_gets_the_first_answer(server: Player, player: Player) -> None:
    rows = [row(player, ago_s=30 * nth + 1) for nth in range(5)]
    first = settled(server, *rows)
    again = settled(server, *rows)
    assert again == first
    spelt = [dict(reversed(each.items())) | {"userId": each["userId"].upper()} for each in rows]
    assert settled(server, *spelt) == first, "the same contents in another spelling"
    assert player.score()["score"] == 5


def test_the_same_id_with_other_contents_is_refused_and_changes_nothing(server: Player, player: Player) -> None:
    first = row(player)
    (item,) = settled(server, first)
    for changes in ({"data": "x"}, {"completedAt": moment()}, {"actionType": "FINISH_ROUND", "points": 1}):
        (refused,) = settled(server, {**first, **changes})
        assert said([refused]) == [("refused", "ACTION_ALREADY_COMPLETED")]
        assert refused["externalId"] == first["externalId"]
    assert settled(server, first) == [item]
    assert player.score()["score"] == 1


def test_the_same_id_of_another_game_server_is_another_action(service: Service, server: Player, player: Player) -> None:
    sent = row(player)
    other = create_staff(service, "system")
    (mine,), (theirs,) = settled(server, sent), settled(other, sent)
    assert mine["actionId"] != theirs["actionId"]
    assert player.score()["score"] == 2


def test_an_id_twice_in_one_body_is_one_action(server: Player, player: Player) -> None:
    sent, bad = row(player), row(player, actionType="NOTHING", externalId="twice")
    items = settled(server, sent, {**sent, "data": "x"}, sent, bad, row(player, ago_s=60, externalId="twice"))
    assert said(items) == [
        _APPLIED,
        ("refused", "ACTION_ALREADY_COMPLETED"),
        _APPLIED,
        ("refused", "VALIDATION_FAILED"),
        _APPLIED,
    ]
    assert items[0]["actionId"] == items[2]["actionId"]
    assert player.score()["score"] == 2


def test_equal_batches_at_the_same_moment_count_once(service: Service, server: Player) -> None:
    players = [register(service.url) for _ in range(4)]
    rows = [row(players[nth % 4], ago_s=20 * nth + 1) for nth in range(40)]
    answers = in_parallel([lambda: data_of(send(server, rows))["items"]] * 6)
    assert all(said(items) == [_APPLIED] * 40 for items in answers)
    assert len({tuple(item["actionId"] for item in items) for items in answers}) == 1
    assert [each.score()["score"] for each in players] == [10] * 4


def test_batches_that_share_rows_in_other_orders_all_come_through(service: Service, server: Player) -> None:
    players = [register(service.url) for _ in range(8)]
    rows = [row(players[nth % 8], ago_s=15 * nth + 1) for nth in range(64)]
    batches = [rows, rows[::-1], rows[32:] + rows[:32], rows[::2] + rows[1::2], rows[:40], rows[20:][::-1]]
    answers = in_parallel([partial(lambda batch: data_of(send(server, batch))["items"], batch) for batch in batches])
    for batch, items in zip(batches, answers, strict=True):
        assert said(items) == [_APPLIED] * len(batch)
    assert [each.score()["score"] for each in players] == [8] * 8


# -- bodies -----------------------------------------------------------------------------


def test_json_lines_are_rows_too(server: Player, player: Player) -> None:
    good = [row(player, ago_s=20), row(player, ago_s=60, data="a  b")]
    body = b"\n" + lines_of(good[:1]) + b'\r\n  \n{"broken\n\xff\xfe\n[]\n' + lines_of(good[1:]).rstrip()
    items = data_of(send_lines(server, body, kind="Application/X-NDJSON; charset=utf-8"))["items"]
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4], "blank lines are no rows"
    assert said(items) == [_APPLIED, *[("refused", "VALIDATION_FAILED")] * 3, _APPLIED]
    assert [item["externalId"] for item in items] == [good[0]["externalId"], None, None, None, good[1]["externalId"]]
    assert player.action(items[4]["actionId"])["data"] == "a  b"
    assert settled(server, *good) == [{**items[0], "index": 0}, {**items[4], "index": 1}], "the same in either form"


def test_nothing_to_do_is_no_error(server: Player) -> None:
    for answer in (send(server, []), send_lines(server, b""), send_lines(server, b"\n\n")):
        assert data_of(answer) == {"items": []}


def test_two_hundred_rows_are_taken_and_one_more_is_not(service: Service, server: Player) -> None:
    players = [register(service.url) for _ in range(10)]
    rows = [row(players[nth % 10], ago_s=60 * (nth // 10) + 1) for nth in range(201)]
    for answer in (send(server, rows), send_lines(server, lines_of(rows))):
        assert_refused(answer, 400, "VALIDATION_FAILED", "actions")
    assert said(settled(server, *rows[:200])) == [_APPLIED] * 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], None),
        ("x", None),
        ({}, "actions"),
        ({"actions": {}}, "actions"),
        ({"actions": None}, "actions"),
        ({"actions": [], "more": 1}, "more"),
    ],
)
def test_a_body_that_is_no_batch_is_refused_whole(server: Player, body: Json, field: str | None) -> None:
    assert_refused(server.api.post(PATH, body), 400, "VALIDATION_FAILED", field)


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_compressed_body_is_refused_whole(server: Player, player: Player, kind: str) -> None:
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    answer = server.api.call("POST", PATH, content=gzip.compress(lines_of([row(player)])), headers=headers)
    assert_refused(answer, 400, "VALIDATION_FAILED")
    assert "compressed" in answer.json()["error"]["message"]


def test_other_bodies_are_refused(server: Player) -> None:
    assert_refused(send_lines(server, b"{", kind="application/json"), 400, "VALIDATION_FAILED")
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        refused = send_lines(server, b'{"actions": []}', kind=kind)
        assert_refused(refused, 415, "UNSUPPORTED_MEDIA_TYPE")
        # It names both kinds: the sender of lines would not look for JSON.
        assert "application/json or application/x-ndjson" in refused.json()["error"]["message"]


def test_this_route_takes_a_megabyte_and_no_other_does(server: Player, player: Player) -> None:
    rows = [row(player, ago_s=60 * nth + 1, data="x" * 2_048, metadata={}) for nth in range(200)]
    body = lines_of(rows)
    assert 64 * 1024 < len(body) < 1024 * 1024
    assert said(data_of(send_lines(server, body))["items"]) == [_APPLIED] * 200
    full = body + b" " * (1024 * 1024 - len(body))
    assert data_of(send_lines(server, full))["items"]
    over = send_lines(server, full + b" ")
    assert_refused(over, 413, "BODY_TOO_LARGE")
    assert "1,024 KB" in over.json()["error"]["message"]
    for path in ("/v1/actions/complete", "/v1/actions/request"):
        assert_refused(server.api.call("POST", path, content=body), 413, "BODY_TOO_LARGE")


def test_a_megabyte_of_unknown_length_is_taken_too(server: Player, player: Player) -> None:
    rows = [row(player, ago_s=60 * nth + 1, data="x" * 2_048) for nth in range(100)]
    body = lines_of(rows)
    pieces = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
    headers = {"Content-Type": "application/x-ndjson", "Prefer": "wait=10"}
    answer = server.api.call("POST", PATH, content=pieces, headers=headers)
    assert said(data_of(answer)["items"]) == [_APPLIED] * 100


# -- who may ------------------------------------------------------------------------------


def test_only_game_servers_may_send(service: Service, server: Player, admin: Admin, player: Player) -> None:
    body = {"actions": [row(player)]}
    for refused in (player, admin):
        assert_refused(refused.api.post(PATH, body), 403, "INSUFFICIENT_PERMISSIONS")
    assert_refused(Api(service.url).post(PATH, body), 401, "INVALID_TOKEN")
    assert_refused(Api(service.url).call("POST", PATH, content=b"x" * 300_000), 401, "INVALID_TOKEN")
    assert_refused(Api(service.url, "x").post(PATH, body), 401, "INVALID_TOKEN")
    assert player.score()["score"] == 0


def test_a_game_server_that_signed_out_sends_nothing_more(service: Service, player: Player) -> None:
    leaving = create_staff(service, "system")
    sent = row(player)
    assert said(settled(leaving, sent)) == [_APPLIED]
    data_of(leaving.api.post("/v1/auth/logout"))
    for rows in ([sent], [row(player)], []):
        assert_refused(send(leaving, rows), 401, "INVALID_TOKEN")
    assert player.score()["score"] == 1
