"""Moderation: searching, banning, flagging, adjusting, and the audit log that keeps all of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

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
    eventually,
    login,
    new_name,
    pages,
    register,
)
from tests.service import Service

USERS = "/v1/admin/users"
AUDIT = "/v1/admin/audit"


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


def shown(admin: Admin, player: Player) -> Json:
    return data_of(admin.api.get(f"{USERS}/{player.id}"))


# -- who may ---------------------------------------------------------------------------

OPERATIONS = [
    ("GET", USERS),
    ("GET", f"{USERS}/{{id}}"),
    *(("POST", f"{USERS}/{{id}}/{action}") for action in ("ban", "unban", "flag", "clear", "adjust")),
    ("GET", AUDIT),
    ("GET", "/v1/admin/stats"),
    ("POST", "/v1/admin/leaderboard/rebuild"),
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_only_admins_may(service: Service, player: Player, method: str, path: str) -> None:
    path = path.format(id=player.id)
    body = {"json": {"reason": "mine", "amount": 1000}} if method == "POST" else {}
    assert_refused(player.api.call(method, path, **body), 403, "INSUFFICIENT_PERMISSIONS")
    assert_refused(Api(service.url).call(method, path, **body), 401, "INVALID_TOKEN")
    assert player.score()["score"] == 0


def test_a_game_server_is_no_admin(service: Service) -> None:
    game_server = create_staff(service, "system")
    assert_refused(game_server.api.get(USERS), 403, "INSUFFICIENT_PERMISSIONS")


@pytest.mark.parametrize("action", ["ban", "unban", "flag", "clear", "adjust"])
def test_somebody_unknown_is_not_found(admin: Admin, action: str) -> None:
    body = {"reason": "a test", **({"amount": 1} if action == "adjust" else {})}
    assert_refused(admin.api.post(f"{USERS}/{uuid4()}/{action}", body), 404, "NOT_FOUND")
    assert_refused(admin.api.get(f"{USERS}/{uuid4()}"), 404, "NOT_FOUND")


# -- searching -------------------------------------------------------------------------


def test_search_finds_by_a_part_of_name_and_address_in_pages(service: Service, admin: Admin) -> None:
    mark = f"Žofie{uuid4().hex[:8]}"
    players = [
        register(service.url, username=f"{mark} {number}", email=f"{mark[5:]}{number}@example.com")
        for number in range(5)
    ]
    for query in (mark, mark.upper(), mark[5:], f"{mark[5:]}3@example.com"):
        found = {user["id"] for user in pages(admin.api, USERS, q=query)}
        expected = {players[3].id} if "@" in query else {player.id for player in players}
        assert found == expected, query
    in_pages = [user["id"] for user in pages(admin.api, USERS, limit=2, q=mark)]
    assert sorted(in_pages) == sorted(player.id for player in players)
    assert pages(admin.api, USERS, q=f"{mark} nobody") == []


@pytest.mark.parametrize("query", ["%", "_", "\\", "' OR 1=1 --", "%%%"])
def test_search_takes_its_words_literally(admin: Admin, player: Player, query: str) -> None:
    assert all(query in user["username"] + user["email"] for user in pages(admin.api, USERS, q=query))


def test_search_filters_by_status(service: Service, admin: Admin) -> None:
    mark = new_name("filtered")
    players = [register(service.url, username=f"{mark}{number}") for number in range(3)]
    admin.act(players[1].id, "flag")
    admin.act(players[2].id, "ban")
    for player, status in zip(players, ("active", "flagged", "banned"), strict=True):
        assert [user["id"] for user in pages(admin.api, USERS, q=mark, status=status)] == [player.id]


@pytest.mark.parametrize(
    "params",
    [{"status": "sleepy"}, {"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"cursor": "AAAA"}, {"role": "admin"}],
)
def test_a_bad_search_is_refused(admin: Admin, params: Json) -> None:
    assert_refused(admin.api.get(USERS, **params), 400, "VALIDATION_FAILED", next(iter(params)))


def test_a_user_is_shown_without_secrets(admin: Admin, player: Player) -> None:
    user = shown(admin, player)
    assert (user["username"], user["email"], user["status"], user["score"]) == (
        player.username,
        player.email,
        "active",
        0,
    )
    assert not [name for name in user if "password" in name.lower() or "hash" in name.lower()]


# -- banning ---------------------------------------------------------------------------


def test_a_ban_takes_hold_at_once_everywhere(service: Service, admin: Admin, player: Player) -> None:
    open_action = player.request_action()
    player.score_point()
    second_session = login(service.url, player.username)

    assert admin.act(player.id, "ban")["status"] == "banned"

    for session in (player, second_session):
        assert_refused(session.api.get("/v1/users/me/score"), 403, "ACCOUNT_BANNED")
        assert_refused(session.complete(open_action), 403, "ACCOUNT_BANNED")
        assert_refused(session.api.post("/v1/stream/ticket"), 403, "ACCOUNT_BANNED")
    credentials = {"username": player.username, "password": PASSWORD}
    assert_refused(Api(service.url).post("/v1/auth/login", credentials), 403, "ACCOUNT_BANNED")
    refreshing = Api(service.url).post("/v1/auth/refresh", {"refreshToken": player.refresh_token})
    assert refreshing.status_code in (401, 403)
    wrong = {"username": player.username, "password": "not the password"}
    assert_refused(Api(service.url).post("/v1/auth/login", wrong), 401, "INVALID_CREDENTIALS")
    assert_refused(Api(service.url).get(f"/v1/leaderboard/around/{player.id}"), 404, "NOT_FOUND")


def test_a_banned_player_returns_where_they_belong(service: Service, admin: Admin) -> None:
    first, second, third = (register(service.url) for _ in range(3))
    for player in (first, second, third):
        admin.adjust(player, 1_000_000)
    api = Api(service.url)

    def order() -> list[str]:
        trio = (first.id, second.id, third.id)
        return [row["userId"] for row in board(api) if row["userId"] in trio]

    assert eventually(order, lambda ids: len(ids) == 3) == [first.id, second.id, third.id]
    total = data_of(api.get("/v1/leaderboard"))["totalPlayers"]
    admin.act(second.id, "ban")
    assert order() == [first.id, third.id]
    assert [row["rank"] for row in board(api)] == list(range(1, len(board(api)) + 1))
    assert data_of(api.get("/v1/leaderboard"))["totalPlayers"] == total - 1
    admin.act(second.id, "unban")
    assert order() == [first.id, second.id, third.id]
    returned = login(service.url, second.username)
    assert returned.score()["score"] == 1_000_000
    for player in (first, second, third):
        admin.act(player.id, "adjust", amount=-1_000_000)


def test_unbanning_does_not_bring_old_sessions_back(admin: Admin, player: Player) -> None:
    admin.act(player.id, "ban")
    admin.act(player.id, "unban")
    assert_refused(player.api.get("/v1/users/me/score"), 401, "INVALID_TOKEN")


# -- flagging --------------------------------------------------------------------------


def test_a_flag_is_set_and_cleared(admin: Admin, player: Player) -> None:
    assert admin.act(player.id, "flag")["status"] == "flagged"
    assert shown(admin, player)["status"] == "flagged"
    assert admin.act(player.id, "clear")["status"] == "active"
    assert shown(admin, player)["status"] == "active"


def test_a_flagged_player_completes_once_a_minute(admin: Admin, player: Player) -> None:
    admin.act(player.id, "flag")
    player.score_point()
    refused = player.complete(player.request_action())
    assert_refused(refused, 429, "RATE_LIMIT_EXCEEDED")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    admin.act(player.id, "clear")
    player.score_point()


# -- adjusting -------------------------------------------------------------------------


def test_an_adjustment_goes_both_ways_and_is_written_down(admin: Admin, player: Player) -> None:
    player.score_point()
    assert data_of(admin.api.post(f"{USERS}/{player.id}/adjust", {"amount": 41, "reason": "a prize"}))["score"] == 42
    assert data_of(admin.api.post(f"{USERS}/{player.id}/adjust", {"amount": -2, "reason": "a slip"}))["score"] == 40
    assert player.score()["score"] == 40
    assert player.score()["totalActions"] == 1
    written = [
        (item["previousScore"], item["increment"], item["newScore"], item["reason"]) for item in player.history()
    ]
    assert written[:2] == [(42, -2, 40, "a slip"), (1, 41, 42, "a prize")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": 5}, "reason"),
        ({"amount": 5, "reason": ""}, "reason"),
        ({"amount": 5, "reason": "   "}, "reason"),
        ({"amount": 5, "reason": "x" * 10_000}, "reason"),
        ({"amount": 5, "reason": "nul\0"}, "reason"),
        ({"reason": "why"}, "amount"),
        ({"amount": 0, "reason": "why"}, "amount"),
        ({"amount": 1.5, "reason": "why"}, "amount"),
        ({"amount": "5", "reason": "why"}, "amount"),
        ({"amount": True, "reason": "why"}, "amount"),
        ({"amount": 2**70, "reason": "why"}, "amount"),
        ({"amount": -(2**70), "reason": "why"}, "amount"),
        ({"amount": -11, "reason": "below zero"}, "amount"),
        ({"amount": 2**53 - 1, "reason": "over what a number holds exactly"}, "amount"),
        ({"amount": 5, "reason": "why", "userId": "x"}, "userId"),
    ],
)
def test_a_bad_adjustment_changes_nothing(admin: Admin, player: Player, body: Json, field: str) -> None:
    admin.adjust(player, 10)
    history = player.history()
    assert_refused(admin.api.post(f"{USERS}/{player.id}/adjust", body), 400, "VALIDATION_FAILED", field)
    assert player.score()["score"] == 10
    assert player.history() == history


@pytest.mark.parametrize("action", ["ban", "unban", "flag", "clear"])
@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": None}, {"reason": 7}, {"reason": "why", "until": 1}])
def test_a_measure_needs_a_reason(admin: Admin, player: Player, action: str, body: Json) -> None:
    assert_refused(admin.api.post(f"{USERS}/{player.id}/{action}", body), 400, "VALIDATION_FAILED")
    assert shown(admin, player)["status"] == "active"
    assert player.score()["userId"] == player.id


# -- the audit log ---------------------------------------------------------------------


def test_each_change_is_audited(service: Service, admin: Admin, player: Player) -> None:
    for action in ("flag", "clear", "ban", "unban"):
        admin.act(player.id, action, reason=f"why {action}")
    admin.act(player.id, "adjust", amount=3, reason="why adjust")
    items = {item["event"]: item for item in pages(admin.api, AUDIT, userId=player.id)}
    for event, reason in [
        ("user.flagged", "why flag"),
        ("user.cleared", "why clear"),
        ("user.banned", "why ban"),
        ("user.unbanned", "why unban"),
        ("score.adjusted", "why adjust"),
    ]:
        item = items[event]
        assert (item["actorId"], item["targetId"], item["ip"]) == (admin.id, player.id, "127.0.0.1")
        assert reason in str(item["details"])
    assert "user.registered" in items
    assert all(event == event.lower() and "." in event for event in items)


def test_what_players_do_is_audited(service: Service, admin: Admin) -> None:
    player = register(service.url)
    player.score_point()
    data_of(player.complete(player.request_action(), time_ms=60_000))
    wrong = {"username": player.username, "password": "not the password"}
    assert_refused(Api(service.url).post("/v1/auth/login", wrong), 401, "INVALID_CREDENTIALS")
    session = login(service.url, player.username)
    for _ in range(2):
        Api(service.url).post("/v1/auth/refresh", {"refreshToken": session.refresh_token})
    data_of(player.api.post("/v1/auth/logout"))
    events = {item["event"] for item in pages(admin.api, AUDIT, userId=player.id)}
    assert {"user.registered", "action.applied", "action.rejected", "user.login_failed", "token.reused"} <= events


def test_actions_are_audited_with_address_and_agent(service: Service, admin: Admin) -> None:
    player, server = register(service.url), create_staff(service, "system")
    player.api.headers["User-Agent"] = "a browser"
    server.api.headers["User-Agent"] = "a game"
    own = player.score_point()["actionId"]
    data_of(player.complete(player.request_action(), time_ms=60_000))
    served = server.request_action(onBehalfOf=player.id)
    data_of(server.send(completion(served, onBehalfOf=player.id)))
    items = [item for item in pages(admin.api, AUDIT, limit=1, userId=player.id) if item["event"].startswith("action.")]
    assert [(item["event"], item["actorId"], item["userAgent"]) for item in items] == [
        ("action.applied", server.id, "a game"),
        ("action.rejected", player.id, "a browser"),
        ("action.applied", player.id, "a browser"),
    ]
    assert {(item["ip"], item["targetId"]) for item in items} == {("127.0.0.1", player.id)}
    assert (items[0]["id"], items[2]["id"]) == (served["actionId"], own)
    assert items[0] in pages(admin.api, AUDIT, userId=server.id, event="action.applied")


@pytest.mark.parametrize("reason", ["\u2800\u2800", "\u2063", "steer \u202e it", "two\u2028lines", "\x1b[2J"])
def test_a_reason_is_text_that_can_be_read(admin: Admin, player: Player, reason: str) -> None:
    refused = admin.api.post(f"{USERS}/{player.id}/flag", {"reason": reason})
    assert_refused(refused, 400, "VALIDATION_FAILED", "reason")
    assert admin.act(player.id, "flag", reason="two\nlines: שלום")["status"] == "flagged"


def test_audit_never_keeps_a_secret(service: Service, admin: Admin, player: Player) -> None:
    secret = "a very secret pass phrase"
    Api(service.url).post("/v1/auth/login", {"username": player.username, "password": secret})
    text = str(pages(admin.api, AUDIT, userId=player.id))
    assert "user.login_failed" in text
    for hidden in (secret, PASSWORD, player.access_token, player.refresh_token):
        assert hidden not in text


def test_audit_is_filtered_and_paged_newest_first(admin: Admin, player: Player) -> None:
    for number in range(1, 6):
        admin.act(player.id, "adjust", amount=number)
    items = pages(admin.api, AUDIT, userId=player.id, event="score.adjusted")
    assert [item["event"] for item in items] == ["score.adjusted"] * 5
    assert [item["details"]["amount"] for item in items] == [5, 4, 3, 2, 1]
    assert pages(admin.api, AUDIT, limit=2, userId=player.id, event="score.adjusted") == items

    middle = items[2]["at"]
    since = pages(admin.api, AUDIT, userId=player.id, event="score.adjusted", since=middle)
    until = pages(admin.api, AUDIT, userId=player.id, event="score.adjusted", until=middle)
    assert items[:2] == since[:2]
    assert items[3:] == until[-2:]
    assert len(since) + len(until) in (5, 6), "the instant itself belongs to one side or to both"
    tomorrow = (datetime.fromisoformat(middle) + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert pages(admin.api, AUDIT, userId=player.id, since=tomorrow) == []
    assert pages(admin.api, AUDIT, userId=player.id, event="no.such_event") == []


@pytest.mark.parametrize(
    "params",
    [
        {"since": "yesterday"},
        {"until": "2026-13-01T00:00:00Z"},
        {"userId": "nobody"},
        {"cursor": "x"},
        {"limit": 0},
        {"limit": 1000},
        {"event": "x" * 1000},
        {"unknown": "1"},
    ],
)
def test_a_bad_audit_query_is_refused(admin: Admin, params: Json) -> None:
    assert_refused(admin.api.get(AUDIT, **params), 400, "VALIDATION_FAILED", next(iter(params)))


def test_stats_show_live_figures(service: Service, admin: Admin, player: Player) -> None:
    stats = data_of(admin.api.get("/v1/admin/stats"))
    assert stats["players"] == data_of(Api(service.url).get("/v1/leaderboard"))["totalPlayers"]
