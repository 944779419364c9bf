"""What belongs to somebody else: neither shown, nor changed, nor told to exist. And fields that are not the caller's
to set.
"""

from __future__ import annotations

import json
from uuid import uuid4

import httpx
import pytest

from tests.functional.client import (
    Api,
    Json,
    assert_refused,
    completion,
    data_of,
    new_name,
    open_stream,
    pages,
    register,
    registration,
)
from tests.security.cast import Cast

HISTORY = "/v1/users/me/history"


def told(answer: httpx.Response) -> tuple[int, object]:
    """All of an answer that its asker sees and that could differ."""
    return answer.status_code, answer.json()


# -- actions ---------------------------------------------------------------------------


def test_anothers_action_looks_like_one_that_does_not_exist(cast: Cast) -> None:
    for asker in (cast.player, cast.flagged, cast.game_server):
        unknown = asker.api.get(f"/v1/actions/{uuid4()}")
        assert_refused(unknown, 404, "NOT_FOUND")
        for action_id in (cast.open_action["actionId"], cast.done_action):
            assert told(asker.api.get(f"/v1/actions/{action_id}")) == told(unknown)


def test_completing_anothers_action_looks_like_completing_none(cast: Cast) -> None:
    """With their token, with one's own, open or done: always the same refusal, and the action stays as it was."""
    own = cast.player.request_action()
    unknown = cast.player.complete({**own, "actionId": str(uuid4())})
    assert_refused(unknown, 400, "INVALID_ACTION_TOKEN")
    attempts = [
        cast.open_action,
        {**own, "actionId": cast.open_action["actionId"]},
        {**own, "actionId": cast.done_action},
        {**cast.open_action, "actionId": own["actionId"]},
    ]
    before = cast.snapshot()
    for attempt in attempts:
        assert told(cast.player.complete(attempt)) == told(unknown)
    assert cast.snapshot() == before
    assert data_of(cast.player.complete(own))["status"] == "applied"


def test_a_game_server_sees_the_actions_it_asked_for_and_no_others(cast: Cast) -> None:
    mine = cast.game_server.request_action(onBehalfOf=cast.player.id)
    assert cast.game_server.action(mine["actionId"])["status"] == "issued"
    assert cast.player.action(mine["actionId"])["status"] == "issued"
    for asker in (cast.victim, cast.flagged):
        assert_refused(asker.api.get(f"/v1/actions/{mine['actionId']}"), 404, "NOT_FOUND")


def test_a_game_server_cannot_complete_what_a_player_began_for_somebody_else(cast: Cast) -> None:
    body = completion(cast.open_action, onBehalfOf=cast.player.id)
    assert_refused(cast.game_server.send(body), 400, "INVALID_ACTION_TOKEN")
    assert cast.victim.action(cast.open_action["actionId"])["status"] == "issued"


@pytest.mark.parametrize("role", ["nobody", "banned", "staff", "unknown"])
def test_a_game_server_plays_for_nobody_who_may_not_play(cast: Cast, role: str) -> None:
    """Not for the banned, not for another game server, and not for whom there isn't."""
    whom = {"nobody": None, "banned": cast.banned.id, "staff": cast.game_server.id, "unknown": str(uuid4())}[role]
    body: Json = {"actionType": "SOLVE_PROBLEM", "metadata": {}, "onBehalfOf": whom}
    refused = {"nobody": (403, "INSUFFICIENT_PERMISSIONS"), "banned": (403, "ACCOUNT_BANNED")}
    assert_refused(cast.game_server.api.post("/v1/actions/request", body), *refused.get(role, (404, "NOT_FOUND")))


# -- history, figures, sessions --------------------------------------------------------


def test_a_history_is_its_owners_whatever_is_asked_for(cast: Cast) -> None:
    theirs = pages(cast.victim.api, HISTORY)
    assert theirs
    cursor = _first_cursor(cast)
    mine = data_of(cast.player.api.get(HISTORY, cursor=cursor, limit=100))["items"]
    assert not {item["actionId"] for item in mine} & {item["actionId"] for item in theirs if item["actionId"]}
    for query in ({"userId": cast.victim.id}, {"user_id": cast.victim.id}, {"id": cast.victim.id}):
        assert_refused(cast.player.api.get(HISTORY, **query), 400, "VALIDATION_FAILED", next(iter(query)))
    assert_refused(cast.player.api.get(f"/v1/users/{cast.victim.id}/history"), 404, "NOT_FOUND")


def _first_cursor(cast: Cast) -> str:
    """A place in the victim's list."""
    cursor = data_of(cast.victim.api.get(HISTORY, limit=1))["nextCursor"]
    assert cursor
    return str(cursor)


def test_who_is_not_on_the_board_looks_like_nobody(cast: Cast) -> None:
    """Staff and the banned are not told from ids that don't exist, by score or by place."""
    for template in ("/v1/users/{}/score", "/v1/leaderboard/around/{}"):
        for asker in (Api(cast.url), cast.player.api):
            unknown = asker.get(template.format(uuid4()))
            assert_refused(unknown, 404, "NOT_FOUND")
            for hidden in (cast.admin.id, cast.game_server.id, cast.banned.id):
                assert told(asker.get(template.format(hidden))) == told(unknown)


def test_what_others_see_of_a_player_is_what_the_board_shows(cast: Cast) -> None:
    seen = data_of(Api(cast.url).get(f"/v1/users/{cast.victim.id}/score"))
    assert set(seen) == {"userId", "username", "score", "rank", "percentile", "totalActions", "lastUpdated"}
    row = data_of(Api(cast.url).get(f"/v1/leaderboard/around/{cast.victim.id}", radius=0))["leaderboard"][0]
    assert set(row) == {"rank", "userId", "username", "score", "updatedAt"}
    for answer in (seen, row):
        assert cast.victim.email not in json.dumps(answer)


def test_signing_out_ends_ones_own_session_only(cast: Cast) -> None:
    """Nothing in the request can name another session."""
    first, second = register(cast.url), register(cast.url)
    body = {"sid": str(uuid4()), "userId": second.id, "refreshToken": second.refresh_token}
    first.api.call("POST", "/v1/auth/logout", json=body, params={"userId": second.id})
    assert_refused(first.api.get("/v1/users/me/score"), 401, "INVALID_TOKEN")
    assert second.score()["userId"] == second.id
    data_of(Api(cast.url).post("/v1/auth/refresh", {"refreshToken": second.refresh_token}))


# -- streams ---------------------------------------------------------------------------


def test_a_stream_is_of_who_opens_it_whatever_is_asked_for(cast: Cast) -> None:
    """flask-sse's ``?channel=`` and the like choose nothing."""
    for name in ("channel", "userId", "user", "target"):
        with open_stream(cast.url, cast.player.access_token, params={name: f"user:{cast.victim.id}"}) as stream:
            stream.wait_for("leaderboard:initial")
            cast.victim.score_point()
            own = cast.player.score_point()
            assert stream.wait_for("action:result").json()["actionId"] == own["actionId"], name


def test_private_events_reach_their_owner_only_also_on_coming_back(cast: Cast) -> None:
    """Anybody may name a place in the stream; what was private there stays so."""
    owner, other = register(cast.url), register(cast.url)
    private = {"score:update", "rank:change", "action:result"}
    with (
        open_stream(cast.url, owner.access_token) as owners,
        open_stream(cast.url, other.access_token) as others,
        open_stream(cast.url) as anonymous,
    ):
        start = owners.wait_for("leaderboard:initial")
        action_id = owner.score_point()["actionId"]
        owners.wait_for(lambda event: event.event == "action:result" and event.json()["actionId"] == action_id)
        own_id = other.score_point()["actionId"]
        # In order: what came before the other's own event would have come by now.
        others.wait_for(lambda event: event.event == "action:result" and event.json()["actionId"] == own_id)
        assert {event.json()["actionId"] for event in others.named("action:result")} == {own_id}
        assert not [event for event in others.named("score:update") if event.json()["userId"] == owner.id]
        assert not [event for event in anonymous.events if event.event in private]
    for token in (other.access_token, None):
        with open_stream(cast.url, token, last_event_id=start.id) as again:
            again.wait_for("leaderboard:initial")
            assert action_id not in " ".join(event.data for event in again.events)


# -- fields that are not the caller's to set -------------------------------------------

PRIVILEGES: list[Json] = [
    {"role": "admin"},
    {"Role": "admin"},
    {"isAdmin": True},
    {"is_admin": True},
    {"status": "active"},
    {"score": 1_000_000},
    {"isHidden": True},
    {"is_hidden": True},
    {"id": "00000000-0000-4000-8000-000000000000"},
    {"totalActions": 99},
    {"passwordHash": "x"},
    {"__proto__": {"role": "admin"}},
    {"constructor": {"prototype": {"role": "admin"}}},
    {"__class__": "Admin"},
    {"user": {"role": "admin"}},
    {"$set": {"role": "admin"}},
]


@pytest.mark.parametrize("more", PRIVILEGES, ids=lambda more: next(iter(more)))
def test_no_account_sets_what_is_not_its_own(cast: Cast, more: Json) -> None:
    (name,) = more
    body = registration()
    assert_refused(Api(cast.url).post("/v1/auth/register", {**body, **more}), 400, "VALIDATION_FAILED", name)
    credentials = {"username": cast.player.username, "password": cast.player.password}
    assert_refused(Api(cast.url).post("/v1/auth/login", {**credentials, **more}), 400, "VALIDATION_FAILED", name)
    assert pages(cast.admin.api, "/v1/admin/users", q=body["username"]) == [], "no account was made"


OUTCOME: list[Json] = [
    {"score": 1_000},
    {"scoreIncrement": 1_000},
    {"status": "applied"},
    {"reason": None},
    {"userId": "00000000-0000-4000-8000-000000000000"},
    {"acceptedAt": "2020-01-01T00:00:00Z"},
    {"completion_time": 1},
    {"maxPoints": 1_000},
    {"__proto__": {"points": 1_000}},
]


@pytest.mark.parametrize("more", OUTCOME, ids=lambda more: next(iter(more)))
def test_no_completion_says_what_it_is_worth(cast: Cast, more: Json) -> None:
    """Neither beside the proof nor in it; and the token is not used up."""
    (name,) = more
    right = completion(cast.open_action)
    assert_refused(cast.victim.send({**right, **more}), 400, "VALIDATION_FAILED", name)
    assert_refused(cast.victim.send({**right, "proof": {**right["proof"], **more}}), 400, "VALIDATION_FAILED", name)
    assert cast.victim.action(cast.open_action["actionId"])["status"] == "issued"


@pytest.mark.parametrize("more", [{"points": 9}, {"maxPoints": 9}, {"expiresAt": "2099-01-01T00:00:00Z"}, {"ttl": 9}])
def test_no_request_for_an_action_sets_its_terms(cast: Cast, more: Json) -> None:
    body = {"actionType": "SOLVE_PROBLEM", "metadata": {}}
    for changed in ({**body, **more}, {**body, "metadata": more}):
        assert_refused(cast.victim.api.post("/v1/actions/request", changed), 400, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    "raw",
    [
        '{{"username": "{name}", "username": "{other}", "email": "{email}", "password": "{password}"}}',
        '{{"\\u0075sername": "{name}", "username": "{other}", "email": "{email}", "password": "{password}"}}',
    ],
    ids=["the same name", "the same name, written another way"],
)
def test_of_a_field_given_twice_the_last_one_counts_everywhere(cast: Cast, raw: str) -> None:
    """For the limits too, which read the name from the same body: nobody is counted as somebody else."""
    first, last = new_name(), new_name()
    email = f"{uuid4().hex}@example.com"
    text = raw.format(name=first, other=last, email=email, password="a long enough pass phrase")
    headers = {"Content-Type": "application/json"}
    answer = Api(cast.url).http.post("/v1/auth/register", content=text.encode(), headers=headers)
    assert data_of(answer, 201)["user"]["username"] == last


def test_a_query_string_sets_no_field_of_a_body(cast: Cast) -> None:
    """``?role=admin`` beside a right body changes nothing of what is made."""
    answer = Api(cast.url).call(
        "POST", "/v1/auth/register", json=registration(), params={"role": "admin", "score": "9", "is_hidden": "1"}
    )
    user = data_of(answer, 201)["user"]
    assert (user["role"], user["score"]) == ("user", 0)
    shown = data_of(cast.admin.api.get(f"/v1/admin/users/{user['id']}"))
    assert (shown["role"], shown["status"], shown["isHidden"]) == ("user", "active", False)


def test_an_admin_cannot_make_admins_by_field_or_ban_one(cast: Cast) -> None:
    path = f"/v1/admin/users/{cast.victim.id}"
    for action in ("flag", "adjust"):
        body = {"reason": "a test", "role": "admin", **({"amount": 1} if action == "adjust" else {})}
        assert_refused(cast.admin.api.post(f"{path}/{action}", body), 400, "VALIDATION_FAILED", "role")
    for method in ("PUT", "PATCH", "DELETE"):
        assert_refused(cast.admin.api.call(method, path, json={"role": "admin"}), 405, "METHOD_NOT_ALLOWED")
    # Whichever admin it is, themselves too.
    answer = cast.admin.api.post(f"/v1/admin/users/{cast.admin.id}/ban", {"reason": "a coup"})
    assert_refused(answer, 403, "INSUFFICIENT_PERMISSIONS")
    assert data_of(cast.admin.api.get("/v1/admin/stats"))
