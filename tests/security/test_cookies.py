"""Cookies: how they are set, and that no page of another site can make a browser act with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from scoreboard.web.door.cookies import CSRF_HEADER
from tests.functional.client import PASSWORD, Admin, Api, Json, Player, create_staff, data_of, register, registration
from tests.functional.contract import Operation, contract_of
from tests.security.pages_fortress import FRIEND, TLS, Fortress, account
from tests.service import Service

WEEK_S = 604_800
# Name: path, whether scripts are kept from it.
DEVELOPMENT = {
    "access_token_cookie": ("/v1", True),
    "csrf_access_token": ("/", False),
    "refresh_token_cookie": ("/v1/auth", True),
    "csrf_refresh_token": ("/", False),
}
PRODUCTION = {
    "__Host-access_token_cookie": ("/", True),
    "__Host-csrf_access_token": ("/", False),
    "__Secure-refresh_token_cookie": ("/v1/auth", True),
    "__Host-csrf_refresh_token": ("/", False),
}
# RFC 6265: a browser may drop what is longer.
COOKIE_MAX_BYTES = 4_096
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
# What a browser says about the page that sends a request; the first is an old browser, or a page of our own.
SENDERS: list[dict[str, str]] = [
    {},
    {"Origin": "https://stranger.example"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Origin": "https://a.same.example", "Sec-Fetch-Site": "same-site"},
]


def set_cookies(answer: httpx.Response) -> dict[str, Any]:
    """The cookies that an answer sets, each once, by name."""
    found: dict[str, Any] = {}
    for line in answer.headers.get_list("set-cookie"):
        ((name, morsel),) = SimpleCookie(line).items()
        assert name not in found
        found[name] = morsel
    return found


def assert_flags(answer: httpx.Response, expected: dict[str, tuple[str, bool]], *, is_secure: bool, age_s: int) -> None:
    cookies = set_cookies(answer)
    assert {name: (each["path"], bool(each["httponly"])) for name, each in cookies.items()} == expected
    for name, cookie in cookies.items():
        assert bool(cookie["secure"]) is is_secure
        assert cookie["samesite"] == "Lax"
        # A browser sends it to the very host that set it, and to no other of the domain.
        assert cookie["domain"] == ""
        assert int(cookie["max-age"]) == age_s
        assert len(name) + len(cookie.value) <= COOKIE_MAX_BYTES


# -- how they are set ---------------------------------------------------------------------


def test_cookies_in_production_are_bound_to_host_and_tls(fortress: Fortress) -> None:
    body = account(cookies=True)
    answers = [fortress.call("POST", "/v1/auth/register", json=body)]
    credentials = {"username": body["username"], "password": PASSWORD, "cookies": True}
    answers.append(fortress.call("POST", "/v1/auth/login", json=credentials))
    cookies = dict(answers[-1].cookies)
    proof = {CSRF_HEADER: cookies["__Host-csrf_refresh_token"]}
    answers.append(fortress.call("POST", "/v1/auth/refresh", cookies=cookies, headers=proof))
    for answer in answers:
        assert answer.is_success, answer.text
        assert_flags(answer, PRODUCTION, is_secure=True, age_s=WEEK_S)


def test_cookies_in_development_differ_by_what_needs_tls(service: Service) -> None:
    answer = httpx.post(f"{service.url}/v1/auth/register", json=registration(cookies=True), timeout=30)
    assert_flags(answer, DEVELOPMENT, is_secure=False, age_s=WEEK_S)


def test_signing_out_takes_every_cookie_away_under_the_flags_it_was_set_with(fortress: Fortress) -> None:
    _, cookies = fortress.sign_in()
    proof = {CSRF_HEADER: cookies["__Host-csrf_access_token"]}
    answer = fortress.call("POST", "/v1/auth/logout", cookies=cookies, headers=proof)
    assert answer.status_code == 200
    gone = set_cookies(answer)
    # A browser ignores a change of a prefixed cookie that lacks Secure or the path.
    assert {name: (each["path"], bool(each["secure"])) for name, each in gone.items()} == {
        name: (path, True) for name, (path, _) in PRODUCTION.items()
    }
    assert all(each.value == "" and "1970" in each["expires"] for each in gone.values())
    assert fortress.call("GET", "/v1/users/me/score", cookies=cookies).status_code == 401


def test_no_answer_sets_a_cookie_unless_asked(service: Service) -> None:
    player = register(service.url)
    body = {"username": player.username, "password": PASSWORD}
    answers = [
        player.api.call("POST", "/v1/auth/login", json=body),
        player.api.call("POST", "/v1/auth/refresh", json={"refreshToken": player.refresh_token}),
        *(httpx.get(service.url + path, timeout=30) for path in ("/", "/api/docs", "/v1/leaderboard", "/nothing")),
    ]
    assert not [answer.url for answer in answers if "set-cookie" in answer.headers]


def test_cookies_that_a_neighbour_of_the_domain_could_set_are_not_looked_at(fortress: Fortress) -> None:
    """Without the prefix a cookie may come from another host under the same domain."""
    _, cookies = fortress.sign_in()
    tossed = {name.removeprefix("__Host-").removeprefix("__Secure-"): value for name, value in cookies.items()}
    assert fortress.call("GET", "/v1/users/me/score", cookies=tossed).status_code == 401
    proof = {CSRF_HEADER: tossed["csrf_refresh_token"]}
    assert fortress.call("POST", "/v1/auth/refresh", cookies=tossed, headers=proof).status_code == 401


# -- acting with them ------------------------------------------------------------------------


@dataclass
class World:
    """Somebody signed in by cookies who may do everything, somebody else, and the one it is done to."""

    service: Service
    admin: Admin
    victim: Player
    cookies: dict[str, str]
    stale_csrf: str
    foreign_csrf: str

    def call(self, operation: Operation, **headers: str) -> httpx.Response:
        path = operation.path.replace("{userId}", self.victim.id).replace("{actionId}", self.victim.id)
        # Header values are bytes; a browser's are ASCII, an attacker's need not be.
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        with httpx.Client(base_url=self.service.url, cookies=self.cookies, verify=TLS, timeout=30) as http:
            return http.request(operation.method, path, headers=sent, json=BODIES.get(operation.path, REASON))

    def snapshot(self) -> list[Json]:
        return [
            data_of(self.admin.api.get(f"/v1/admin/users/{self.victim.id}")),
            data_of(self.admin.api.get("/v1/admin/audit", userId=self.admin.id, limit=100)),
        ]


REASON = {"reason": "a test"}
BODIES: dict[str, Json] = {
    "/v1/admin/users/{userId}/adjust": {"amount": 5, "reason": "a test"},
    "/v1/actions/request": {"actionType": "SOLVE_PROBLEM", "metadata": {}},
    "/v1/auth/refresh": {},
}
# Without any look at cookies: whoever calls them says who it is in the body.
UNSIGNED = {"/v1/auth/register", "/v1/auth/login"}


def operations(service: Service) -> list[Operation]:
    """Everything that changes something and takes a cookie."""
    return [
        each for each in contract_of(service.url).operations if each.method in CHANGING and each.path not in UNSIGNED
    ]


def cookies_of(service: Service, username: str) -> dict[str, str]:
    body = {"username": username, "password": PASSWORD, "cookies": True}
    return dict(httpx.post(f"{service.url}/v1/auth/login", json=body, timeout=30).raise_for_status().cookies)


@pytest.fixture(scope="module")
def world(service: Service) -> Iterator[World]:
    admin, victim = create_staff(service), register(service.url)
    old = cookies_of(service, admin.username)
    with httpx.Client(base_url=service.url, cookies=old, timeout=30) as http:
        headers = {CSRF_HEADER: old["csrf_refresh_token"]}
        renewed = http.post("/v1/auth/refresh", headers=headers).raise_for_status().cookies
    stranger = cookies_of(service, victim.username)
    world = World(service, admin, victim, dict(renewed), old["csrf_access_token"], stranger["csrf_access_token"])
    before = world.snapshot()
    yield world
    assert world.snapshot() == before


def test_what_a_cookie_signs_is_what_the_description_says(world: World) -> None:
    found = operations(world.service)
    assert len(found) >= 10
    assert {"/v1/auth/refresh", "/v1/auth/logout", "/v1/actions/complete", "/v1/stream/ticket"} <= {
        each.path for each in found
    }


@pytest.mark.parametrize("proof", ["none", "empty", "stale", "foreign", "the other's", "guessed", "not ASCII", "twice"])
def test_no_change_without_the_right_proof_whoever_sends_it(world: World, proof: str) -> None:
    is_own = world.cookies["csrf_access_token"]
    wrong = {
        "none": {},
        "empty": {CSRF_HEADER: ""},
        "stale": {CSRF_HEADER: world.stale_csrf},
        "foreign": {CSRF_HEADER: world.foreign_csrf},
        "the other's": {},
        "guessed": {CSRF_HEADER: "00000000-0000-0000-0000-000000000000"},
        "not ASCII": {CSRF_HEADER: "é" * 36},
        "twice": {CSRF_HEADER: f"{is_own}, {is_own}"},
    }[proof]
    for operation in operations(world.service):
        if proof == "the other's":
            other = "access" if operation.path == "/v1/auth/refresh" else "refresh"
            wrong = {CSRF_HEADER: world.cookies[f"csrf_{other}_token"]}
        for sender in SENDERS:
            answer = world.call(operation, **wrong, **sender)
            assert answer.status_code == 403, f"{operation.path} {sender}: {answer.text}"
            assert answer.json()["error"]["code"] == "CSRF_FAILED"
            assert "set-cookie" not in answer.headers


def test_the_right_proof_does_not_help_a_page_of_another_site(world: World) -> None:
    for operation in operations(world.service):
        kind = "refresh" if operation.path == "/v1/auth/refresh" else "access"
        answer = world.call(
            operation, **{CSRF_HEADER: world.cookies[f"csrf_{kind}_token"], "Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status_code == 403, operation.path
        assert answer.json()["error"]["code"] == "CSRF_FAILED"


def test_the_proof_counts_in_its_header_only(world: World) -> None:
    """Whatever a form of another site can send: fields and query strings."""
    proof = world.cookies["csrf_access_token"]
    with httpx.Client(base_url=world.service.url, cookies=world.cookies, verify=TLS, timeout=30) as http:
        for options in (
            {"data": {"csrf_token": proof, CSRF_HEADER: proof}},
            {"params": {"csrf_token": proof, CSRF_HEADER: proof}},
            {"json": {"csrf_token": proof, CSRF_HEADER: proof}},
            {"files": {"csrf_token": (None, proof)}},
        ):
            answer = http.post("/v1/stream/ticket", **options)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "CSRF_FAILED"


def test_nothing_changes_by_a_method_that_browsers_send_unasked(world: World) -> None:
    for operation in operations(world.service):
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = world.call(Operation(operation.path, method, {}), **{"X-HTTP-Method-Override": "POST"})
            assert answer.status_code in ((200,) if method == "OPTIONS" else (404, 405)), operation.path


def test_with_the_right_proof_every_one_of_them_is_let_in(service: Service) -> None:
    """Else the refusals above could have any reason."""
    admin, victim = create_staff(service), register(service.url)
    cookies = cookies_of(service, admin.username)
    world = World(service, admin, victim, cookies, "", "")
    game_server = replace(world, cookies=cookies_of(service, create_staff(service, "system").username))
    last = ("/v1/auth/refresh", "/v1/auth/logout")
    for operation in sorted(operations(service), key=lambda each: last.index(each.path) if each.path in last else -1):
        kind = "refresh" if operation.path == "/v1/auth/refresh" else "access"
        signed_in = game_server if operation.path.startswith("/v1/system/") else world
        answer = signed_in.call(operation, **{CSRF_HEADER: signed_in.cookies[f"csrf_{kind}_token"]})
        assert answer.status_code not in (401, 403), f"{operation.path}: {answer.text}"
        if operation.path == "/v1/auth/refresh":
            world.cookies = dict(answer.cookies)


@pytest.mark.parametrize("path", sorted(UNSIGNED))
def test_a_form_of_another_site_signs_nobody_in(service: Service, path: str) -> None:
    """Being signed in as somebody else without noticing is an attack too: a form can't send JSON without asking."""
    body = registration(cookies=True)
    if path == "/v1/auth/login":
        register(service.url, username=body["username"], email=body["email"])
        body = {"username": body["username"], "password": PASSWORD, "cookies": True}
    text = httpx.Request("POST", "http://x", json=body).content
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/jsonp",
    ):
        for sender in SENDERS:
            answer = httpx.post(service.url + path, content=text, headers={"Content-Type": kind, **sender}, timeout=30)
            assert answer.status_code == 415, kind
            assert "set-cookie" not in answer.headers


def test_a_friendly_site_gets_no_cookies_to_keep(fortress: Fortress) -> None:
    """Without Access-Control-Allow-Credentials a browser drops them, and sends none."""
    answer, _ = fortress.sign_in(Origin=FRIEND)
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "access-control-allow-credentials" not in answer.headers


def test_tokens_in_cookies_open_what_they_are_for_and_nothing_else(service: Service) -> None:
    """An access token does not refresh, a refresh token signs no call, also under the other's name."""
    player = register(service.url)
    cookies = cookies_of(service, player.username)
    swapped = Api(service.url, Cookie=f"access_token_cookie={cookies['refresh_token_cookie']}")
    assert swapped.get("/v1/users/me/score").status_code == 401
    proof = {
        CSRF_HEADER: cookies["csrf_access_token"],
        "Cookie": f"refresh_token_cookie={cookies['access_token_cookie']}",
    }
    assert Api(service.url, **proof).post("/v1/auth/refresh").status_code == 401
