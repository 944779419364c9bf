"""A web process caches callers, and Postgres rechecks them with each write: no caller gains rights by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.functional.client import (
    Admin,
    Json,
    Player,
    assert_refused,
    completion,
    create_staff,
    data_of,
    register,
)
from tests.service import Service

# More than the web processes, each on a connection of its own: all of them have met the player then.
MEETINGS = 20


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture
def known(service: Service) -> tuple[Player, list[Json]]:
    """A player whom every web process remembers, and open actions of theirs."""
    player = register(service.url)
    return player, [player.request_action() for _ in range(MEETINGS)]


def log_out(_admin: Admin, player: Player) -> None:
    data_of(player.api.post("/v1/auth/logout"))


def ban(admin: Admin, player: Player) -> None:
    admin.act(player.id, "ban")


WAYS_OUT = [(log_out, 401, "INVALID_TOKEN"), (ban, 403, "ACCOUNT_BANNED")]


@pytest.mark.parametrize(("end", "status", "code"), WAYS_OUT, ids=["logged out", "banned"])
def test_whoever_is_out_is_out_at_once_in_every_process(
    admin: Admin, known: tuple[Player, list[Json]], end: Callable[[Admin, Player], None], status: int, code: str
) -> None:
    player, actions = known
    end(admin, player)
    for action in actions:
        assert_refused(player.complete(action, wait_s=None), status, code)
        assert_refused(player.api.post("/v1/actions/request", {"actionType": "SOLVE_PROBLEM"}), status, code)


@pytest.mark.parametrize(("end", "status", "code"), WAYS_OUT, ids=["logged out", "banned"])
@pytest.mark.parametrize("path", ["request", "complete"])
def test_that_comes_before_every_other_refusal(
    admin: Admin,
    known: tuple[Player, list[Json]],
    end: Callable[[Admin, Player], None],
    status: int,
    code: str,
    path: str,
) -> None:
    player, actions = known
    end(admin, player)
    forged = {**completion(actions[0]), "actionToken": "forged"}
    bodies: list[object] = [{}, [], {"actionType": "no such thing"}, forged]
    for body in bodies * 3:
        assert_refused(player.api.post(f"/v1/actions/{path}", body), status, code)


def test_a_flag_counts_at_once_in_every_process(admin: Admin, known: tuple[Player, list[Json]]) -> None:
    player, actions = known
    admin.act(player.id, "flag")
    data_of(player.complete(actions[0], wait_s=None), 202)
    for action in actions[1:]:
        assert_refused(player.complete(action, wait_s=None), 429, "RATE_LIMIT_EXCEEDED")


def test_whose_flag_is_taken_away_goes_on(admin: Admin, known: tuple[Player, list[Json]]) -> None:
    player, actions = known
    admin.act(player.id, "flag")
    data_of(player.complete(actions[0], wait_s=None), 202)
    admin.act(player.id, "clear")
    for action in actions[1:]:
        data_of(player.complete(action, wait_s=None), 202)
