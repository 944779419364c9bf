"""Every way in × every kind of caller: those allowed are written down here, all others are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.client import Player, assert_refused
from tests.functional.contract import contract_of
from tests.security.beside import web_beside
from tests.security.cast import ROLES, Cast, caller
from tests.security.doors import REQUESTS, Door, all_doors, knock
from tests.security.who import TABLE, Who
from tests.service import Service

# Let in, but not on the board.
NOT_ON_THE_BOARD = (Door("GET", "/v1/leaderboard/around/me"), ("game server", "admin"))
_BAD_CREDENTIAL = {
    "banned": (403, "ACCOUNT_BANNED"),
    "expired": (401, "TOKEN_EXPIRED"),
    "logged out": (401, "INVALID_TOKEN"),
}
_MISSING, _TOO_LITTLE = (401, "INVALID_TOKEN"), (403, "INSUFFICIENT_PERMISSIONS")
OPERATOR_TOKEN = "a token for operators, and for them only"


def refusal(who: Who, role: str, *, is_closed: bool) -> tuple[int, str] | None:
    """How a caller of this role is refused; None for those who may. Closed: in production, with a closed board."""
    if who is Who.ANYBODY or (who is Who.OPERATOR and not is_closed):
        return None
    if role in _BAD_CREDENTIAL:
        return _BAD_CREDENTIAL[role]
    if role == "nobody":
        return None if who is Who.UNLESS_BAD or (who is Who.BOARD and not is_closed) else _MISSING
    if who is Who.GAME_SERVER:
        return None if role == "game server" else _TOO_LITTLE
    return _TOO_LITTLE if who in (Who.ADMIN, Who.OPERATOR) and role != "admin" else None


def _can_refuse(who: Who) -> bool:
    return any(refusal(who, role, is_closed=False) for role in ROLES)


def test_every_way_in_has_its_place_in_the_table() -> None:
    assert set(TABLE) == set(all_doors()) == set(REQUESTS)


@pytest.fixture(scope="module")
def closed(cast: Cast) -> Iterator[Cast]:
    """The same data behind a web process in production mode, whose board is for signed-in callers."""
    settings = {"ENVIRONMENT": "production", "OPERATOR_TOKEN": OPERATOR_TOKEN, "PUBLIC_LEADERBOARD": "false"}
    with web_beside(cast.service, WEB_CONCURRENCY="1", **settings) as service:
        yield cast.at(service)


@pytest.mark.parametrize("door", TABLE, ids=str)
def test_who_may_and_who_may_not(cast: Cast, door: Door) -> None:
    _try_all_roles(cast, door, is_closed=False)


@pytest.mark.parametrize("door", [door for door, who in TABLE.items() if who in (Who.BOARD, Who.OPERATOR)], ids=str)
def test_who_may_and_who_may_not_in_production_with_a_closed_board(closed: Cast, door: Door) -> None:
    _try_all_roles(closed, door, is_closed=True)


def _try_all_roles(cast: Cast, door: Door, *, is_closed: bool) -> None:
    before = cast.snapshot()
    expected = {role: refusal(TABLE[door], role, is_closed=is_closed) for role in ROLES}
    for role in (role for role, refused in expected.items() if refused):
        answer = knock(caller(cast, role), door, REQUESTS[door](cast, None))
        assert_refused(answer, *(expected[role] or (0, "")))
    assert cast.snapshot() == before, "a refused call has changed something"
    for role in (role for role, refused in expected.items() if not refused):
        # Who may change a victim gets another one than the refused are watched on.
        may_change = TABLE[door] is Who.ADMIN and door.method == "POST"
        _let_in(cast.with_another_victim() if may_change else cast, door, role)


def _let_in(cast: Cast, door: Door, role: str) -> None:
    if role == "flagged" and door.rule.endswith("/complete"):
        cast = cast.with_another_flagged()
    player = _account(cast, role)
    if door.rule.endswith("/logout") and player is not None:
        player = cast.again(player)
    sent = REQUESTS[door](cast, player)
    api = player.api if player is not None and role not in _BAD_CREDENTIAL else caller(cast, role)
    answer = knock(api, door, sent)
    if door == NOT_ON_THE_BOARD[0] and role in NOT_ON_THE_BOARD[1]:
        assert_refused(answer, 404, "NOT_FOUND")
    else:
        assert answer.status_code < 400, f"{role}: {answer.status_code} {answer.text[:300]}"


def _account(cast: Cast, role: str) -> Player | None:
    """Who can act in that role; None where nobody can."""
    return {
        "player": cast.player,
        "flagged": cast.flagged,
        "game server": cast.game_server,
        "admin": cast.admin,
    }.get(role)


def test_the_operator_token_opens_the_inside_and_nothing_else(closed: Cast) -> None:
    for door, who in TABLE.items():
        api = caller(closed, "nobody")
        api.headers["Authorization"] = f"Bearer {OPERATOR_TOKEN}"
        answer = knock(api, door, REQUESTS[door](closed, None))
        if who in (Who.OPERATOR, Who.ANYBODY):
            assert answer.status_code < 400, f"{door}: {answer.text[:300]}"
        else:
            assert_refused(answer, 401, "INVALID_TOKEN")


@pytest.mark.parametrize("form", ["Bearer {}x", "Bearer x{}", "Basic {}", "{}", "Bearer {} {}"])
def test_nearly_the_operator_token_opens_nothing(closed: Cast, form: str) -> None:
    api = caller(closed, "nobody")
    api.headers["Authorization"] = form.replace("{}", OPERATOR_TOKEN)
    for path in ("/metrics", "/health/detailed"):
        assert_refused(api.get(path), 401, "INVALID_TOKEN")


_DESCRIBED = {
    Who.ANYBODY: "anyone; credentials are not looked at",
    Who.OPERATOR: "anyone; credentials are not looked at",
    Who.UNLESS_BAD: "anyone, but a bad credential is refused",
    Who.BOARD: "anyone, or signed-in callers only when PUBLIC_LEADERBOARD is false",
    Who.SIGNED_IN: "signed-in callers",
    Who.ADMIN: "admins",
    Who.GAME_SERVER: "game servers: accounts of the role system",
}


def test_the_description_says_who_may(service: Service) -> None:
    """The table above is written by hand, the description comes from the code."""
    described = {
        (operation.method, operation.path): operation.spec["x-access"]
        for operation in contract_of(service.url).operations
    }
    assert len(described) == len([door for door in TABLE if door.rule.startswith(("/v1", "/health", "/metrics"))])
    for door, who in TABLE.items():
        path = door.rule.replace("<uuid:user_id>", "{userId}").replace("<uuid:action_id>", "{actionId}")
        if (door.method, path) in described:
            assert described[door.method, path] == _DESCRIBED[who], str(door)


@pytest.mark.parametrize("door", [door for door in TABLE if door.method == "GET" and _can_refuse(TABLE[door])], ids=str)
def test_asking_for_the_head_only_needs_the_same_right(cast: Cast, door: Door) -> None:
    for role in ("nobody", "player", "banned"):
        expected = refusal(TABLE[door], role, is_closed=False)
        if expected is not None:
            answer = caller(cast, role).call("HEAD", REQUESTS[door](cast, None).path)
            assert (answer.status_code, answer.content) == (expected[0], b""), role


WHOLE = [door for door in REQUESTS if door.method == "GET" and "stream" not in door.rule]


@pytest.mark.parametrize("door", WHOLE, ids=str)
def test_the_head_alone_is_that_of_the_whole_answer(cast: Cast, door: Door) -> None:
    api, path = caller(cast, "admin"), REQUESTS[door](cast, None).path
    whole, head = (api.call(method, path) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers.keys() == whole.headers.keys()
