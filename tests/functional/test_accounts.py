"""Accounts and sessions: registering, signing in, rotating tokens, cookies."""

from __future__ import annotations

import base64
import json
import time
import unicodedata
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests.conftest import StartService
from tests.functional.client import (
    PASSWORD,
    Api,
    Json,
    Player,
    assert_refused,
    create_staff,
    data_of,
    in_parallel,
    login,
    new_name,
    open_stream,
    pages,
    register,
    registration,
)
from tests.functional.sse import SseRefused
from tests.service import Service

OWN_SCORE = "/v1/users/me/score"


@pytest.fixture
def api(service: Service) -> Api:
    return Api(service.url)


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


# -- registering -----------------------------------------------------------------------


def test_registering_signs_in_and_puts_the_player_on_the_board(api: Api) -> None:
    name = new_name()
    data = data_of(api.post("/v1/auth/register", registration(username=name)), 201)
    assert set(data) == {"accessToken", "refreshToken", "expiresIn", "user"}
    assert data["expiresIn"] == 3600
    assert data["user"] == {"id": data["user"]["id"], "username": name, "role": "user", "score": 0}
    score = data_of(Api(api.url, data["accessToken"]).get(OWN_SCORE))
    assert score["score"] == 0
    assert score["rank"] >= 1
    assert score["totalActions"] == 0


@pytest.mark.parametrize(
    "name",
    ["ab", "x" * 50, "山田太郎", "Ольга", "نور الدين", "नेहा", "🦊🎲", "👩‍👩‍👧 family", "O'Brien", '<b>&amp;"', "a\\b"],
)
def test_a_user_name_may_be_in_any_script(api: Api, name: str) -> None:
    response = api.post("/v1/auth/register", registration(username=name))
    assert response.status_code == 201, response.text
    assert response.json()["data"]["user"]["username"] == name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("a", id="one character"),
        pytest.param("x" * 51, id="51 characters"),
        pytest.param("x" * 1000, id="far too long"),
        pytest.param(" leading", id="leading space"),
        pytest.param("trailing ", id="trailing space"),
        pytest.param("no-break\u00a0", id="trailing no-break space"),
        pytest.param("nul\0byte", id="NUL"),
        pytest.param("tab\there", id="tab"),
        pytest.param("new\nline", id="line feed"),
        pytest.param("return\rhere", id="carriage return"),
        pytest.param("bell\x07", id="control"),
        pytest.param("c1\x85line", id="NEL"),
        pytest.param("evil\u202egnp", id="right-to-left override"),
        pytest.param("isolate\u2066x", id="left-to-right isolate"),
        pytest.param("line\u2028separator", id="U+2028"),
        pytest.param("paragraph\u2029separator", id="U+2029"),
        pytest.param("   ", id="only spaces"),
    ],
)
def test_a_user_name_that_could_fool_somebody_is_refused(api: Api, name: str) -> None:
    response = api.post("/v1/auth/register", registration(username=name))
    assert_refused(response, 400, "VALIDATION_FAILED", "username")


def test_a_lone_surrogate_is_refused(api: Api) -> None:
    body = json.dumps(registration()).replace("player", "\\ud800")
    response = api.call(
        "POST", "/v1/auth/register", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert_refused(response, 400, "VALIDATION_FAILED")


def test_a_user_name_is_normalised(api: Api) -> None:
    composed = unicodedata.normalize("NFC", new_name("Zoë"))
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    data = data_of(api.post("/v1/auth/register", registration(username=decomposed)), 201)
    assert data["user"]["username"] == composed
    assert_refused(api.post("/v1/auth/register", registration(username=composed)), 409, "USERNAME_TAKEN")
    assert login(api.url, decomposed).username == composed


def in_sans_serif(name: str) -> str:
    """Its small letters from the block of mathematical ones, which a page draws like any others."""
    return "".join(chr(0x1D5BA + ord(each) - ord("a")) if "a" <= each <= "z" else each for each in name)


@pytest.mark.parametrize("variant", [str.upper, str.title, str.casefold, in_sans_serif])
def test_a_user_name_is_unique_without_regard_to_case(service: Service, api: Api, variant: Any) -> None:
    name = new_name("straße Ж Players")
    register(service.url, username=name)
    assert_refused(api.post("/v1/auth/register", registration(username=variant(name))), 409, "USERNAME_TAKEN")


def test_signing_in_does_not_regard_case(service: Service) -> None:
    player = register(service.url)
    assert login(service.url, player.username.upper()).id == player.id


def test_an_email_address_is_unique(api: Api, player: Player) -> None:
    assert_refused(api.post("/v1/auth/register", registration(email=player.email)), 409, "EMAIL_TAKEN")
    assert_refused(api.post("/v1/auth/register", registration(email=player.email.upper())), 409, "EMAIL_TAKEN")


@pytest.mark.parametrize("body", [{}, {"email": None}])
def test_an_account_needs_no_email_address(service: Service, api: Api, body: Json) -> None:
    """Any number of accounts have none, and an admin sees that."""
    admin = create_staff(service)
    for _ in range(2):
        bare = {**registration(), **body}
        if "email" not in body:
            del bare["email"]
        user = data_of(api.post("/v1/auth/register", bare), 201)["user"]
        assert data_of(admin.api.get(f"/v1/admin/users/{user['id']}"))["email"] is None
        assert [each["id"] for each in pages(admin.api, "/v1/admin/users", q=bare["username"])] == [user["id"]]
        assert login(service.url, bare["username"]).id == user["id"]


def test_commands_need_no_email_address(service: Service) -> None:
    name = new_name("bare admin")
    done = service.run("create-admin", "--username", name, "--password", PASSWORD)
    assert done.returncode == 0, done.stderr
    assert login(service.url, name).username == name


@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n", "\t{}", "\ufeff{}", "{}\u00a0", "\u200b{}\u2060"])
def test_a_pasted_name_signs_in(service: Service, around: str) -> None:
    player = register(service.url)
    for name in (player.username, player.username.upper()):
        assert login(service.url, around.format(name)).id == player.id


@pytest.mark.parametrize(
    "name", ["\u2800\u2800", "rival\u2063", "rival\u00a0x", "ri\u200dval", "rival\ufe0f", "rival\ue000"]
)
def test_a_name_that_hides_something_is_refused(api: Api, name: str) -> None:
    assert_refused(api.post("/v1/auth/register", registration(username=name)), 400, "VALIDATION_FAILED", "username")


def test_names_that_draw_alike_are_one_name(api: Api) -> None:
    plain = f"{new_name()} 👍 two"
    assert api.post("/v1/auth/register", registration(username=plain)).status_code == 201
    for twin in (plain.replace("👍", "👍\ufe0f"), plain.replace("👍", "👍\u200d👍")):
        answer = api.post("/v1/auth/register", registration(username=twin))
        assert answer.status_code == (201 if "👍\u200d" in twin else 409)


def test_a_name_stored_by_an_earlier_release_is_not_given_away_again(service: Service, api: Api) -> None:
    """Its key still has what isn't drawn."""
    name = f"{new_name()} ❤\ufe0f x"
    player = register(service.url, username=name)
    engine = sa.create_engine(service.database_url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        statement = "UPDATE users SET username_key = :key WHERE id = CAST(:id AS uuid)"
        connection.execute(sa.text(statement), {"key": name, "id": player.id})
    engine.dispose()
    assert_refused(api.post("/v1/auth/register", registration(username=name)), 409, "USERNAME_TAKEN")
    assert login(service.url, name).id == player.id


@pytest.mark.parametrize("email", ["", "nobody", "a@", "@example.com", "a b@example.com", "a@exa\nmple.com", "x" * 300])
def test_a_bad_email_address_is_refused(api: Api, email: str) -> None:
    assert_refused(api.post("/v1/auth/register", registration(email=email)), 400, "VALIDATION_FAILED", "email")


@pytest.mark.parametrize("password", ["", "short12", "x" * 129, "password", "PASSWORD", "12345678", "qwertyuiop"])
def test_a_weak_password_is_refused(api: Api, password: str) -> None:
    response = api.post("/v1/auth/register", registration(password=password))
    assert_refused(response, 400, "VALIDATION_FAILED", "password")


@pytest.mark.parametrize("password", ["eightish", "wq" * 64, "пароль из слов", "🔑" * 8, " spaced out "])
def test_a_password_of_8_to_128_characters_signs_in(service: Service, password: str) -> None:
    player = register(service.url, password=password)
    assert login(service.url, player.username, password).id == player.id


def test_one_name_registered_at_once_by_many_is_one_account(api: Api) -> None:
    name = new_name()
    answers = in_parallel([lambda: api.post("/v1/auth/register", registration(username=name)) for _ in range(8)])
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


def test_a_role_cannot_be_asked_for(api: Api) -> None:
    response = api.post("/v1/auth/register", registration(role="admin"))
    assert_refused(response, 400, "VALIDATION_FAILED", "role")


# -- signing in ------------------------------------------------------------------------


def test_signing_in_answers_tokens_and_the_user(service: Service, api: Api, player: Player) -> None:
    player.score_point()
    data = data_of(api.post("/v1/auth/login", {"username": player.username, "password": PASSWORD}))
    assert data["user"] == {"id": player.id, "username": player.username, "role": "user", "score": 1}
    assert not api.http.cookies, "cookies only when asked for"


def test_an_unknown_name_and_a_wrong_password_look_the_same(api: Api, player: Player) -> None:
    wrong = api.post("/v1/auth/login", {"username": player.username, "password": "not the password"})
    unknown = api.post("/v1/auth/login", {"username": new_name("nobody"), "password": "not the password"})
    assert_refused(wrong, 401, "INVALID_CREDENTIALS")
    assert unknown.status_code == 401
    assert unknown.json() == wrong.json()
    assert _shape(unknown) == _shape(wrong)


def _shape(response: httpx.Response) -> list[str]:
    return sorted(name for name in response.headers if name.lower() != "connection")


def test_an_unknown_name_takes_as_long_as_a_wrong_password(api: Api, player: Player) -> None:
    def seconds(username: str) -> float:
        def once() -> float:
            started = time.perf_counter()
            api.post("/v1/auth/login", {"username": username, "password": "not the password"})
            return time.perf_counter() - started

        return min(once() for _ in range(5))

    known, unknown = seconds(player.username), seconds(new_name("nobody"))
    # Without a hash an answer takes a tenth of the time; half allows for a busy machine.
    assert unknown > known / 2


# -- refreshing ------------------------------------------------------------------------


def refresh(url: str, token: str) -> httpx.Response:
    return Api(url).post("/v1/auth/refresh", {"refreshToken": token})


def test_refreshing_answers_a_new_pair(service: Service, player: Player) -> None:
    data = data_of(refresh(service.url, player.refresh_token))
    assert set(data) == {"accessToken", "refreshToken", "expiresIn", "user"}
    assert data["refreshToken"] != player.refresh_token
    assert data["accessToken"] != player.access_token
    assert data["user"]["id"] == player.id
    assert data_of(Api(service.url, data["accessToken"]).get(OWN_SCORE))["userId"] == player.id


def test_a_refresh_token_comes_as_bearer_token_too(service: Service, player: Player) -> None:
    data_of(Api(service.url, player.refresh_token).post("/v1/auth/refresh"))


def test_a_dead_refresh_token_revokes_its_whole_family(service: Service, player: Player) -> None:
    second = data_of(refresh(service.url, player.refresh_token))
    third = data_of(refresh(service.url, second["refreshToken"]))
    other_session = login(service.url, player.username)

    assert_refused(refresh(service.url, player.refresh_token), 401, "INVALID_TOKEN")

    assert_refused(refresh(service.url, third["refreshToken"]), 401, "INVALID_TOKEN")
    for token in (player.access_token, second["accessToken"], third["accessToken"]):
        assert_refused(Api(service.url, token).get(OWN_SCORE), 401, "INVALID_TOKEN")
    assert other_session.score()["userId"] == player.id, "another sign-in is another family"


def test_a_refresh_token_used_at_once_by_many_works_at_most_once(service: Service, player: Player) -> None:
    answers = in_parallel([lambda: refresh(service.url, player.refresh_token) for _ in range(8)])
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    assert_refused(player.api.get(OWN_SCORE), 401, "INVALID_TOKEN")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "\u00e9" * 20])
def test_what_is_no_refresh_token_is_refused(service: Service, token: str) -> None:
    assert_refused(refresh(service.url, token), 401, "INVALID_TOKEN")


def test_refreshing_without_a_token_is_refused(api: Api) -> None:
    assert_refused(api.post("/v1/auth/refresh"), 401, "INVALID_TOKEN")
    assert_refused(api.post("/v1/auth/refresh", {}), 401, "INVALID_TOKEN")


# -- signing out -----------------------------------------------------------------------


def test_logging_out_revokes_this_session_at_once(service: Service, player: Player) -> None:
    other_session = login(service.url, player.username)
    data_of(player.api.post("/v1/auth/logout"))
    # Every web process has to know; one connection would meet only one of them.
    for _ in range(8):
        assert_refused(Api(service.url, player.access_token).get(OWN_SCORE), 401, "INVALID_TOKEN")
    assert_refused(refresh(service.url, player.refresh_token), 401, "INVALID_TOKEN")
    assert_refused(player.api.post("/v1/auth/logout"), 401, "INVALID_TOKEN")
    assert other_session.score()["userId"] == player.id


# -- tokens ----------------------------------------------------------------------------


def claims_of(token: str) -> Json:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(claims, dict)
    return claims


def encoded(part: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def bad_tokens(player: Player) -> dict[str, str]:
    header, payload, signature = player.access_token.split(".")
    claims = claims_of(player.access_token)
    admin = encoded({**claims, "role": "admin", "sub": "00000000-0000-4000-8000-000000000000"})
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    return {
        "garbage": "garbage",
        "empty parts": "..",
        "another signature": f"{header}.{payload}.{flipped}",
        "no signature": f"{header}.{payload}.",
        "other claims": f"{header}.{admin}.{signature}",
        "alg none": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        "alg None": f"{encoded({'alg': 'None', 'typ': 'JWT'})}.{payload}.",
        "a refresh token": player.refresh_token,
    }


@pytest.mark.parametrize(
    "kind",
    [
        "garbage",
        "empty parts",
        "another signature",
        "no signature",
        "other claims",
        "alg none",
        "alg None",
        "a refresh token",
    ],
)
@pytest.mark.parametrize("path", [OWN_SCORE, "/v1/leaderboard", "/v1/actions/types", "/v1/leaderboard/top10"])
def test_a_bad_access_token_is_refused_also_where_none_is_needed(player: Player, kind: str, path: str) -> None:
    assert_refused(Api(player.url, bad_tokens(player)[kind]).get(path), 401, "INVALID_TOKEN")


@pytest.mark.parametrize("value", ["Bearer", "Basic dXNlcjpwYXNz", "Token abc", "Bearer a b"])
def test_an_odd_authorization_header_is_refused(service: Service, value: str) -> None:
    assert_refused(Api(service.url, Authorization=value).get(OWN_SCORE), 401, "INVALID_TOKEN")


def test_an_access_token_does_not_refresh(service: Service, player: Player) -> None:
    assert_refused(refresh(service.url, player.access_token), 401, "INVALID_TOKEN")
    assert_refused(player.api.post("/v1/auth/refresh"), 401, "INVALID_TOKEN")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", OWN_SCORE),
        ("GET", "/v1/users/me/history"),
        ("GET", "/v1/leaderboard/around/me"),
        ("GET", "/v1/actions/00000000-0000-4000-8000-000000000000"),
        ("POST", "/v1/actions/request"),
        ("POST", "/v1/actions/complete"),
        ("POST", "/v1/stream/ticket"),
        ("POST", "/v1/auth/logout"),
        ("GET", "/v1/admin/users"),
    ],
)
def test_a_missing_token_is_an_invalid_one(api: Api, method: str, path: str) -> None:
    assert_refused(api.call(method, path), 401, "INVALID_TOKEN")


def test_a_token_names_what_it_is_for(player: Player) -> None:
    access, refreshing = claims_of(player.access_token), claims_of(player.refresh_token)
    for claims in (access, refreshing):
        assert {"type", "jti", "aud", "iss", "exp", "sub"} <= set(claims)
    assert access["type"] == "access"
    assert refreshing["type"] == "refresh"


def test_short_lives_and_a_closed_board(start_service: StartService) -> None:
    """Tokens of five seconds, on a service whose board is for signed-in callers only."""
    service = start_service(JWT_ACCESS_TTL_S="5", JWT_REFRESH_TTL_S="6", PUBLIC_LEADERBOARD="false")
    player = register(service.url)
    assert (player.score()["rank"], player.score()["percentile"]) == (1, 100), "alone on the board"
    anonymous = Api(service.url)
    closed = [
        "/v1/leaderboard",
        "/v1/leaderboard/top10",
        f"/v1/leaderboard/around/{player.id}",
        f"/v1/users/{player.id}/score",
    ]
    for path in closed:
        assert_refused(anonymous.get(path), 401, "INVALID_TOKEN")
        response = player.api.get(path)
        assert response.status_code == 200, path
        assert "public" not in response.headers.get("Cache-Control", "")
    data_of(anonymous.get("/v1/actions/types"))
    with pytest.raises(SseRefused) as refused:
        open_stream(service.url)
    assert refused.value.status == 401
    ticket = data_of(player.api.post("/v1/stream/ticket"))["ticket"]
    with open_stream(service.url, params={"ticket": ticket}) as stream:
        stream.wait_for("leaderboard:initial")
        stream.wait_ended(12)

    for path in [OWN_SCORE, *closed, "/v1/actions/types"]:
        assert_refused(player.api.get(path), 401, "TOKEN_EXPIRED")
    time.sleep(1.1)
    assert_refused(refresh(service.url, player.refresh_token), 401, "TOKEN_EXPIRED")


# -- cookies ---------------------------------------------------------------------------


@pytest.fixture
def browser(service: Service, player: Player) -> Api:
    """A caller signed in by cookies, as a page is."""
    api = Api(service.url)
    data_of(api.post("/v1/auth/login", {"username": player.username, "password": PASSWORD, "cookies": True}))
    return api


def csrf(browser: Api, name: str = "csrf_access_token") -> dict[str, str]:
    return {"X-CSRF-TOKEN": str(browser.http.cookies.get(name))}


def test_token_cookies_are_hidden_from_pages(service: Service, player: Player) -> None:
    body = {"username": player.username, "password": PASSWORD, "cookies": True}
    response = Api(service.url).post("/v1/auth/login", body)
    token = {line for line in response.headers.get_list("set-cookie") if player_token_in(line, response)}
    assert len(token) == 2, "an access and a refresh cookie"
    for line in token:
        assert "httponly" in line.lower()
        assert "samesite=" in line.lower()


def player_token_in(line: str, response: httpx.Response) -> bool:
    data = response.json()["data"]
    return data["accessToken"] in line or data["refreshToken"] in line


def test_a_cookie_reads_without_and_writes_with_the_csrf_header(browser: Api, player: Player) -> None:
    assert data_of(browser.get(OWN_SCORE))["userId"] == player.id
    body = {"actionType": "SOLVE_PROBLEM", "metadata": {}}
    assert_refused(browser.post("/v1/actions/request", body), 403, "CSRF_FAILED")
    assert_refused(browser.post("/v1/actions/request", body, **{"X-CSRF-TOKEN": "wrong"}), 403, "CSRF_FAILED")
    data_of(browser.post("/v1/actions/request", body, **csrf(browser)))


def test_a_cookie_opens_the_stream(service: Service, browser: Api, player: Player) -> None:
    with open_stream(service.url, cookies={"access_token_cookie": cookie(browser, "access_token_cookie")}) as stream:
        stream.wait_for("leaderboard:initial")
        player.score_point()
        stream.wait_for("score:update")


def cookie(browser: Api, name: str) -> str:
    return next(each.value or "" for each in browser.http.cookies.jar if each.name == name)


def test_a_cookie_refreshes_with_the_csrf_header(browser: Api) -> None:
    before = cookie(browser, "refresh_token_cookie")
    assert_refused(browser.post("/v1/auth/refresh"), 403, "CSRF_FAILED")
    data_of(browser.post("/v1/auth/refresh", **csrf(browser, "csrf_refresh_token")))
    assert cookie(browser, "refresh_token_cookie") != before
    data_of(browser.get(OWN_SCORE))


def test_logging_out_drops_the_cookies(browser: Api) -> None:
    assert_refused(browser.post("/v1/auth/logout"), 403, "CSRF_FAILED")
    data_of(browser.get(OWN_SCORE))
    token = cookie(browser, "access_token_cookie")
    data_of(browser.post("/v1/auth/logout", **csrf(browser)))
    assert not [each.name for each in browser.http.cookies.jar if each.name.endswith("_token_cookie")]
    with_old_cookie = Api(browser.url, Cookie=f"access_token_cookie={token}")
    assert_refused(with_old_cookie.get(OWN_SCORE), 401, "INVALID_TOKEN")
