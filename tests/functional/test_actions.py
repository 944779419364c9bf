"""Actions: the catalogue, tokens, completions and what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from cryptography.fernet import Fernet

from scoreboard.local import LocalServers
from scoreboard.local.servers import free_port
from tests.functional.client import (
    QUICK,
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
    metric,
    register,
)
from tests.service import Service, running_service

OUTCOME_FIELDS = {"scoreIncrement", "previousScore", "newScore", "previousRank", "rank", "rankChange"}


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


@pytest.fixture
def other(service: Service) -> Player:
    return register(service.url)


@pytest.fixture(scope="module")
def admin(service: Service) -> Admin:
    return create_staff(service)


@pytest.fixture(scope="module")
def game_server(service: Service) -> Player:
    return create_staff(service, "system")


# -- the catalogue ---------------------------------------------------------------------


def test_the_catalogue_has_a_type_of_each_kind(service: Service) -> None:
    types = data_of(Api(service.url).get("/v1/actions/types"))["types"]
    for each in types:
        fields = {"code", "title", "points", "minTimeMs", "minTimeMsBy", "maxTimeMs", "speed", "metadataSchema"}
        assert set(each) == fields
        assert 0 <= each["minTimeMs"] < each["maxTimeMs"]
        assert each["points"]["maximum"] > 0
    assert {each["points"]["kind"] for each in types} == {"fixed", "computed", "reported"}
    fixed = next(each for each in types if each["points"]["kind"] == "fixed")
    assert fixed["points"]["value"] == fixed["points"]["maximum"]
    assert (fixed["minTimeMsBy"], fixed["speed"]) == (None, None)


def test_the_catalogue_tells_times_by_difficulty(service: Service) -> None:
    types = data_of(Api(service.url).get("/v1/actions/types"))["types"]
    level = next(each for each in types if each["code"] == "TAP_NUMBERS")
    times = level["minTimeMsBy"]["difficulty"]
    # Clients that know only one least time must not be told one that is too long for some metadata.
    assert level["minTimeMs"] == min(times.values())
    assert set(times) == set(level["points"]["multiply"]["difficulty"]) == set(level["speed"]["fullMsBy"]["difficulty"])


@pytest.mark.parametrize(
    "body",
    [
        {"actionType": "NO_SUCH_TYPE", "metadata": {}},
        {"actionType": "solve_problem", "metadata": {}},
        {"actionType": QUICK, "metadata": {"unknown": 1}},
        {"actionType": QUICK, "metadata": {"problem": 7}},
        {"actionType": "COMPLETE_LEVEL", "metadata": {}},
        {"actionType": "COMPLETE_LEVEL", "metadata": {"difficulty": "impossible"}},
        {"actionType": QUICK, "metadata": []},
        {"actionType": QUICK, "metadata": {}, "points": 5},
    ],
)
def test_a_request_that_the_catalogue_does_not_allow_is_refused(player: Player, body: Json) -> None:
    assert_refused(player.api.post("/v1/actions/request", body), 400, "VALIDATION_FAILED")


# -- what is told of an outcome ----------------------------------------------------------


@pytest.mark.parametrize(
    ("waited_s", "claimed_ms", "details"),
    [
        (0.0, 1_500, {"clock": "server", "bound": "minimum", "boundMs": 1_000}),
        (1.1, 400, {"clock": "client", "bound": "minimum", "boundMs": 1_000, "actualMs": 400}),
        (0.0, 60_000, {"clock": "client", "bound": "maximum", "actualMs": 60_000}),
    ],
)
def test_a_rejection_says_which_bound_was_broken(
    player: Player, waited_s: float, claimed_ms: int, details: Json
) -> None:
    with player.stream() as stream:
        action = player.request_action("COMPLETE_LEVEL", {"difficulty": "easy", "levelId": "7"})
        time.sleep(waited_s)
        outcome = data_of(player.complete(action, time_ms=claimed_ms))
        told = stream.wait_for("action:result").json()
    assert outcome["reason"] == ("CLOCK_MISMATCH" if claimed_ms == 60_000 else "COMPLETION_TIME")
    said = outcome["reasonDetails"]
    assert details.items() <= said.items()
    low, high = sorted((said["boundMs"], said["actualMs"]))
    assert low < high
    assert (said["actualMs"] == low) == (said["bound"] == "minimum")
    assert told["reasonDetails"] == player.action(action["actionId"])["reasonDetails"] == said
    assert player.score_point()["reasonDetails"] is None


def test_data_is_shown_to_its_owner_and_to_admins(service: Service, player: Player) -> None:
    action = player.request_action()
    data_of(player.complete(action, data="café: lap 3"))
    admin, stranger = create_staff(service), register(service.url)
    for reader in (player, admin):
        assert reader.action(action["actionId"])["data"] == "café: lap 3"
    assert_refused(stranger.api.get(f"/v1/actions/{action['actionId']}"), 404, "NOT_FOUND")
    bare = player.score_point()
    assert player.action(bare["actionId"])["data"] is None


def test_what_a_game_server_sent_is_shown_to_it(service: Service, player: Player) -> None:
    server = create_staff(service, "system")
    action = server.request_action(onBehalfOf=player.id)
    data_of(server.send(completion(action, data="a replay", onBehalfOf=player.id)))
    assert server.action(action["actionId"])["data"] == player.action(action["actionId"])["data"] == "a replay"


# -- earning points --------------------------------------------------------------------


def test_a_fixed_action_is_worth_its_value(player: Player) -> None:
    action = player.request_action()
    assert set(action) == {"actionId", "actionToken", "proofKey", "issuedAt", "expiresAt", "maxPoints"}
    assert action["maxPoints"] == 1
    assert player.action(action["actionId"])["status"] == "issued"

    outcome = data_of(player.complete(action))

    assert set(outcome) >= {*OUTCOME_FIELDS, "status"}
    assert outcome["status"] == "applied"
    assert (outcome["scoreIncrement"], outcome["previousScore"], outcome["newScore"]) == (1, 0, 1)
    assert outcome["rankChange"] == outcome["previousRank"] - outcome["rank"]
    assert outcome["rankChange"] >= 0
    assert player.score()["score"] == 1
    assert player.score()["totalActions"] == 1


def test_a_computed_action_is_worth_what_its_metadata_say(player: Player) -> None:
    action = player.request_action("COMPLETE_LEVEL", {"difficulty": "hard", "levelId": "7"})
    assert action["maxPoints"] == 50
    time.sleep(1.1)
    outcome = data_of(player.complete(action, time_ms=1_050))
    assert outcome["scoreIncrement"] == 50


def test_each_difficulty_has_its_least_time(player: Player) -> None:
    actions = {level: player.request_action("TAP_NUMBERS", {"difficulty": level}) for level in ("easy", "hard")}
    time.sleep(1.1)
    outcomes = {level: data_of(player.complete(action, time_ms=1_050)) for level, action in actions.items()}
    assert [outcomes["easy"]["status"], outcomes["easy"]["scoreIncrement"]] == ["applied", 10]
    assert [outcomes["hard"]["status"], outcomes["hard"]["reason"]] == ["rejected", "COMPLETION_TIME"]


def test_a_reported_action_is_worth_what_is_reported_up_to_the_maximum(player: Player) -> None:
    actions = [player.request_action("FINISH_ROUND") for _ in range(3)]
    assert actions[0]["maxPoints"] == 100
    time.sleep(2.1)
    assert_refused(player.complete(actions[0], time_ms=2_050, points=101), 400, "SCORE_VALIDATION_FAILED")
    gained = [
        data_of(player.complete(action, time_ms=2_050, points=points))["scoreIncrement"]
        for action, points in zip(actions, (100, 0, 37), strict=True)
    ]
    assert gained == [100, 0, 37]
    assert player.score()["score"] == 137


def test_data_may_come_along_up_to_its_limit(player: Player) -> None:
    outcome = data_of(player.complete(player.request_action(), data="ü" * 1024))
    assert outcome["status"] == "applied"


def test_without_prefer_the_answer_is_202_and_the_outcome_follows(player: Player) -> None:
    action = player.request_action()
    data = data_of(player.complete(action, wait_s=None), 202)
    assert data == {"actionId": action["actionId"], "status": "accepted", "statusUrl": data["statusUrl"]}
    assert data["statusUrl"].endswith(f"/v1/actions/{action['actionId']}")
    settled = player.settled_action(action["actionId"])
    assert settled["status"] == "applied"
    assert settled["actionType"] == QUICK
    assert (settled["scoreIncrement"], settled["previousScore"], settled["newScore"]) == (1, 0, 1)
    assert settled["issuedAt"] <= settled["acceptedAt"] <= settled["settledAt"]


@pytest.mark.parametrize("value", ["wait=0", "wait=", "wait=-1", "wait=abc", "wait=1e9", "wait=11", "respond-async"])
def test_an_odd_prefer_header_does_no_harm(player: Player, value: str) -> None:
    response = player.api.post("/v1/actions/complete", completion(player.request_action()), Prefer=value)
    assert response.status_code in (200, 202), response.text


# -- what complete refuses -------------------------------------------------------------


def _forged(action: Json) -> Json:
    token = action["actionToken"]
    return {**action, "actionToken": token[:-6] + ("AAAAA=" if token[-6:] != "AAAAA=" else "BBBBB=")}


def test_a_forged_token_is_refused_and_uses_nothing_up(player: Player) -> None:
    action = player.request_action()
    foreign = Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
    for token in (_forged(action)["actionToken"], foreign, "x", "é", action["actionToken"] + "x"):
        assert_refused(player.send({**completion(action), "actionToken": token}), 400, "INVALID_ACTION_TOKEN")
    assert data_of(player.complete(action))["status"] == "applied"


def test_another_users_token_is_refused_and_stays_theirs(player: Player, other: Player) -> None:
    action = player.request_action()
    assert_refused(other.complete(action), 400, "INVALID_ACTION_TOKEN")
    assert other.score()["score"] == 0
    assert data_of(player.complete(action))["status"] == "applied"


def test_the_token_of_another_action_is_refused(player: Player) -> None:
    first, second = player.request_action(), player.request_action()
    swapped = {**completion(first), "actionToken": second["actionToken"]}
    assert_refused(player.send(swapped), 400, "INVALID_ACTION_TOKEN")
    unknown = {**first, "actionId": str(uuid4())}
    assert_refused(player.complete(unknown), 400, "INVALID_ACTION_TOKEN")
    for action in (first, second):
        assert data_of(player.complete(action))["status"] == "applied"


def test_a_wrong_checksum_is_refused_and_uses_nothing_up(player: Player) -> None:
    action = player.request_action()
    body = completion(action, data="what was signed")
    for change in ({"checksum": "0" * 64}, {"data": "something else"}, {"completionTime": 1}):
        changed = {**body, "proof": {**body["proof"], **change}}
        assert_refused(player.send(changed), 400, "INVALID_ACTION_TOKEN")
    assert player.action(action["actionId"])["status"] == "issued"
    assert data_of(player.send(body))["status"] == "applied"


def test_points_for_an_action_that_is_not_reported_are_refused(player: Player) -> None:
    action = player.request_action()
    for points in (0, 1, 1_000):
        assert_refused(player.complete(action, points=points), 400, "VALIDATION_FAILED")
    assert data_of(player.complete(action))["scoreIncrement"] == 1


def test_a_reported_action_needs_points(player: Player) -> None:
    assert_refused(player.complete(player.request_action("FINISH_ROUND")), 400, "VALIDATION_FAILED")


@pytest.mark.parametrize("data", ["x" * 2049, "ü" * 1025, "🎲" * 513])
def test_too_much_data_is_refused_by_its_bytes(player: Player, data: str) -> None:
    action = player.request_action()
    assert_refused(player.complete(action, data=data), 400, "VALIDATION_FAILED", "data")
    assert data_of(player.complete(action))["status"] == "applied"


@pytest.mark.parametrize(
    ("change", "proof_change"),
    [
        ({"score": 5}, {}),
        ({}, {"bonus": 5}),
        ({}, {"completionTime": "0"}),
        ({}, {"completionTime": 1.5}),
        ({}, {"completionTime": -1}),
        ({}, {"completionTime": True}),
        ({}, {"completionTime": None}),
        ({}, {"checksum": "XYZ"}),
        ({}, {"data": 7}),
        ({}, {"points": "1"}),
        ({"actionId": "not-a-uuid"}, {}),
        ({"actionToken": None}, {}),
        ({"proof": None}, {}),
    ],
)
def test_a_malformed_completion_is_refused_and_uses_nothing_up(
    player: Player, change: Json, proof_change: Json
) -> None:
    action = player.request_action()
    right = completion(action)
    wrong = {**right, "proof": {**right["proof"], **proof_change}, **change}
    assert_refused(player.send(wrong), 400, "VALIDATION_FAILED")
    assert data_of(player.send(right))["status"] == "applied"


# -- once, and only once ---------------------------------------------------------------


def test_the_very_same_body_gets_the_same_answer_again(player: Player) -> None:
    action = player.request_action()
    first = data_of(player.complete(action, data="same"))
    for wait_s in (10, None):
        again = data_of(player.complete(action, wait_s=wait_s, data="same"))
        assert again == first
    assert player.score()["score"] == 1


def test_another_body_for_the_same_action_is_a_conflict(player: Player) -> None:
    action = player.request_action()
    data_of(player.complete(action))
    for proof in ({"data": "new"}, {"time_ms": 1}):
        assert_refused(player.complete(action, **proof), 409, "ACTION_ALREADY_COMPLETED")
    assert player.score()["score"] == 1
    assert len(player.history()) == 1


def test_thirty_equal_completions_at_once_count_once(player: Player) -> None:
    action = player.request_action()
    answers = in_parallel([lambda: player.complete(action) for _ in range(30)])
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert player.score()["score"] == 1
    assert [item["increment"] for item in player.history()] == [1]


def test_thirty_different_completions_at_once_count_once(player: Player) -> None:
    action = player.request_action()
    bodies = [completion(action, data=str(number)) for number in range(30)]
    answers = in_parallel([lambda body=body: player.send(body) for body in bodies])  # type: ignore[misc]
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 29
    assert [item["increment"] for item in player.history()] == [1]


# -- outcomes --------------------------------------------------------------------------


def assert_no_points(outcome: Json) -> None:
    assert [outcome[name] for name in sorted(OUTCOME_FIELDS)] == [None] * len(OUTCOME_FIELDS)


def test_an_action_done_too_fast_is_rejected(player: Player) -> None:
    outcome = data_of(player.complete(player.request_action("COMPLETE_LEVEL", {"difficulty": "easy"}), time_ms=1_500))
    assert (outcome["status"], outcome["reason"]) == ("rejected", "COMPLETION_TIME")
    assert_no_points(outcome)
    assert player.score()["score"] == 0


def test_a_claim_far_over_the_servers_clock_is_rejected(player: Player) -> None:
    outcome = data_of(player.complete(player.request_action(), time_ms=60_000))
    assert (outcome["status"], outcome["reason"]) == ("rejected", "CLOCK_MISMATCH")
    assert_no_points(outcome)


def test_a_claim_within_the_tolerance_is_applied(player: Player) -> None:
    assert data_of(player.complete(player.request_action(), time_ms=1_500))["status"] == "applied"


def test_a_burst_is_held_and_loses_nothing(player: Player, admin: Admin) -> None:
    outcomes = [data_of(player.complete(player.request_action())) for _ in range(9)]
    assert [each["status"] for each in outcomes] == ["applied"] * 8 + ["held"]
    assert outcomes[-1]["reason"] == "BURST"
    assert_no_points(outcomes[-1])
    assert player.score()["score"] == 8
    assert player.score()["totalActions"] == 8


# -- who may see an action -------------------------------------------------------------


def test_an_action_is_shown_to_its_owner_and_admins_only(player: Player, other: Player, admin: Admin) -> None:
    action_id = player.score_point()["actionId"]
    assert player.action(action_id)["status"] == "applied"
    assert admin.action(action_id) == player.action(action_id)
    assert_refused(other.api.get(f"/v1/actions/{action_id}"), 404, "NOT_FOUND")
    assert_refused(player.api.get(f"/v1/actions/{uuid4()}"), 404, "NOT_FOUND")
    assert_refused(Api(player.url).get(f"/v1/actions/{action_id}"), 401, "INVALID_TOKEN")


# -- game servers ----------------------------------------------------------------------


def test_a_game_server_completes_on_behalf_of_a_player(game_server: Player, player: Player) -> None:
    action = game_server.request_action(onBehalfOf=player.id)
    outcome = data_of(game_server.complete(action, onBehalfOf=player.id))
    assert (outcome["status"], outcome["newScore"]) == ("applied", 1)
    assert player.score()["score"] == 1
    assert player.history()[0]["actionId"] == action["actionId"]


def test_a_player_may_not_act_on_behalf_of_anybody(player: Player, other: Player) -> None:
    body = {"actionType": QUICK, "metadata": {}, "onBehalfOf": other.id}
    assert_refused(player.api.post("/v1/actions/request", body), 403, "INSUFFICIENT_PERMISSIONS")
    response = player.complete(player.request_action(), onBehalfOf=other.id)
    assert_refused(response, 403, "INSUFFICIENT_PERMISSIONS")
    assert (player.score()["score"], other.score()["score"]) == (0, 0)


def test_an_admin_may_not_act_on_behalf_of_anybody(admin: Admin, player: Player) -> None:
    body = {"actionType": QUICK, "metadata": {}, "onBehalfOf": player.id}
    assert_refused(admin.api.post("/v1/actions/request", body), 403, "INSUFFICIENT_PERMISSIONS")


def test_a_game_server_cannot_act_for_nobody(game_server: Player) -> None:
    body = {"actionType": QUICK, "metadata": {}, "onBehalfOf": str(uuid4())}
    response = game_server.api.post("/v1/actions/request", body)
    assert_refused(response, 404, "NOT_FOUND")


def test_a_game_server_cannot_swap_players(game_server: Player, player: Player, other: Player) -> None:
    action = game_server.request_action(onBehalfOf=player.id)
    assert_refused(game_server.complete(action, onBehalfOf=other.id), 400, "INVALID_ACTION_TOKEN")


# -- services with settings of their own -----------------------------------------------

OLD_KEY, NEW_KEY = Fernet.generate_key().decode(), Fernet.generate_key().decode()
CATALOGUE = """
[actions.TAP]
title = "Tap"
min_time_ms = 0
max_time_ms = 500
points = { kind = "fixed", value = 7 }
"""


@pytest.fixture(scope="module")
def old_and_new(
    local_servers: LocalServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Service]]:
    """Two services on the same data: before and after a rotation of the action keys, with few open actions."""
    catalogue = tmp_path_factory.mktemp("catalogue") / "actions.toml"
    catalogue.write_text(CATALOGUE)
    common = {"ACTION_CATALOGUE": str(catalogue), "MAX_OPEN_ACTIONS": "3", "ACTION_TOKEN_TTL_S": "2"}
    with ExitStack() as closing:
        old = closing.enter_context(running_service(local_servers, ACTION_TOKEN_KEYS=OLD_KEY, **common))
        shared = {"DATABASE_URL": old.database_url, "REDIS_URL": old.redis_url}
        keys = f"{NEW_KEY},{OLD_KEY}"
        yield old, closing.enter_context(running_service(local_servers, ACTION_TOKEN_KEYS=keys, **common, **shared))


def at(service: Service, player: Player) -> Player:
    """The same player, calling another service."""
    return Player(service.url, player.id, player.username, player.email, player.access_token, player.refresh_token)


def test_a_token_survives_the_rotation_of_keys(old_and_new: tuple[Service, Service]) -> None:
    old, new = old_and_new
    player = register(old.url)
    action = player.request_action("TAP")
    assert data_of(at(new, player).complete(action))["newScore"] == 7
    newer = at(new, player).request_action("TAP")
    assert_refused(player.complete(newer), 400, "INVALID_ACTION_TOKEN")


def test_a_catalogue_of_ones_own_replaces_the_default(old_and_new: tuple[Service, Service]) -> None:
    types = data_of(Api(old_and_new[0].url).get("/v1/actions/types"))["types"]
    assert [(each["code"], each["points"]["value"]) for each in types] == [("TAP", 7)]


def test_an_action_that_took_too_long_is_rejected(old_and_new: tuple[Service, Service]) -> None:
    player = register(old_and_new[0].url)
    action = player.request_action("TAP")
    time.sleep(0.7)
    outcome = data_of(player.complete(action, time_ms=100))
    assert (outcome["status"], outcome["reason"]) == ("rejected", "COMPLETION_TIME")


def test_an_expired_token_is_refused_and_shows_as_expired(old_and_new: tuple[Service, Service]) -> None:
    player = register(old_and_new[0].url)
    action = player.request_action("TAP")
    time.sleep(2.1)
    assert_refused(player.complete(action), 400, "ACTION_TOKEN_EXPIRED")
    shown = player.action(action["actionId"])
    assert shown["status"] == "expired"
    assert shown["acceptedAt"] is None
    assert player.score()["score"] == 0


def test_the_first_answer_comes_again_after_expiry(old_and_new: tuple[Service, Service]) -> None:
    player = register(old_and_new[0].url)
    action = player.request_action("TAP")
    first = data_of(player.complete(action))
    time.sleep(2.1)
    assert data_of(player.complete(action)) == first


def test_open_actions_are_few_at_a_time(old_and_new: tuple[Service, Service]) -> None:
    player = register(old_and_new[0].url)

    def ask() -> httpx.Response:
        return player.api.post("/v1/actions/request", {"actionType": "TAP", "metadata": {}})

    answers = in_parallel([ask for _ in range(8)])
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_refused(refused, 429, "TOO_MANY_OPEN_ACTIONS")
    assert 1 <= int(refused.headers["Retry-After"]) <= 3
    done = data_of(next(answer for answer in answers if answer.status_code == 200))
    data_of(player.complete(done))
    assert ask().status_code == 200, "a completed action makes room"
    time.sleep(2.2)
    assert ask().status_code == 200, "an expired action makes room"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[actions.ODD]\ntitle = 'x'\nmin_time_ms = 0\nmax_time_ms = 1\npoints = {kind='guessed'}", "ODD"),
        ("[actions.NONE]\ntitle = 'x'\nmin_time_ms = 2\nmax_time_ms = 1\npoints = {kind='fixed', value=1}", "NONE"),
        ("not toml at all [", "actions.toml"),
    ],
)
def test_a_wrong_catalogue_stops_the_start(service: Service, tmp_path: Path, text: str, named: str) -> None:
    catalogue = tmp_path / "actions.toml"
    catalogue.write_text(text)
    elsewhere = replace(service, settings_env={**service.settings_env, "PORT": str(free_port())})
    done = elsewhere.run("run", ACTION_CATALOGUE=str(catalogue))
    assert done.returncode != 0
    assert named in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1, "one clear line"


def test_settled_actions_are_counted(service: Service, player: Player) -> None:
    def applied() -> float:
        return metric(service.url, "scoreboard_settled_actions_total", state="applied")

    before = applied()
    player.score_point()
    # Workers send their counts every two seconds.
    eventually(applied, lambda count: count >= before + 1)
