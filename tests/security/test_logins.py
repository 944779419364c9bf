"""Guessing passwords, finding out names, and filling tables: what limits and equal work leave of it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from uuid import uuid4

import httpx
import jwt
import psutil
import pytest

from tests.functional.client import (
    PASSWORD,
    Api,
    Json,
    Player,
    assert_refused,
    data_of,
    in_parallel,
    new_name,
    register,
    registration,
)
from tests.security.beside import SECRETS, web_beside
from tests.security.cast import Cast
from tests.security.forge import claims_of
from tests.service import Service

LOGIN, REGISTER = "/v1/auth/login", "/v1/auth/register"
AT_ONCE = 40
LOGINS_MAX, ANONYMOUS_MAX = 5, AT_ONCE + 10
WRONG = "not the password"
_addresses = (f"198.18.{number // 250}.{number % 250 + 1}" for number in count())


@pytest.fixture(scope="module")
def limited(service: Service) -> Iterator[Service]:
    """The login limits of the specification over two processes; anonymous calls are few."""
    # An empty setting is the default.
    few = ("RATE_LIMIT_ANONYMOUS", "RATE_LIMIT_REGISTER", "RATE_LIMIT_REFRESH")
    limits = {"RATE_LIMIT_LOGIN": "", "RATE_LIMIT_LOGIN_ADDRESS": "", **dict.fromkeys(few, f"{ANONYMOUS_MAX}/hour")}
    with web_beside(service, TRUSTED_PROXIES="1", WEB_CONCURRENCY="2", ENVIRONMENT="development", **limits) as beside:
        yield beside


@pytest.fixture
def address() -> str:
    return next(_addresses)


def at(service: Service, address: str, token: str | None = None) -> Api:
    return Api(service.url, token, **{"X-Forwarded-For": address})


# -- races -----------------------------------------------------------------------------


def spellings(name: str) -> list[str]:
    """Other ways to write the same name."""
    return [name, name.upper(), name.lower(), name.title(), unicodedata.normalize("NFD", name), name.swapcase()]


def test_forty_guesses_at_once_get_five_answers(limited: Service, cast: Cast, address: str) -> None:
    """However the name is written, over whichever process, and whatever else the request says."""
    player = register(cast.url, username=new_name("Zoë Ångström"))
    names = spellings(player.username)

    def guess(number: int) -> httpx.Response:
        body = {"username": names[number % len(names)], "password": f"guess {number}"}
        headers = {"X-Forwarded-For": f"192.0.2.{number}, {address}", "User-Agent": f"browser {number}"}
        return Api(limited.url, **headers).post(LOGIN, body)

    answers = in_parallel([partial(guess, number) for number in range(AT_ONCE)])
    assert sorted(answer.status_code for answer in answers) == [401] * LOGINS_MAX + [429] * (AT_ONCE - LOGINS_MAX)
    right = at(limited, address).post(LOGIN, {"username": player.username, "password": PASSWORD})
    assert_refused(right, 429, "RATE_LIMIT_EXCEEDED")
    assert told(right) == told(answers_limited(answers)[0]), "nor does it tell that one is right"


def told(answer: httpx.Response) -> Json:
    """What a refusal says, but for the seconds that go by."""
    error: Json = answer.json()["error"]
    return {**error, "details": {**error["details"], "retryAfter": None}}


def answers_limited(answers: list[httpx.Response]) -> list[httpx.Response]:
    return [answer for answer in answers if answer.status_code == 429]


def test_a_body_that_hides_its_name_is_counted_all_the_same(limited: Service, cast: Cast, address: str) -> None:
    """The limit reads the name from the same body in the same way as the login does."""
    name, other = cast.player.username, new_name("nobody")
    hidden = [
        f'{{"username": "{other}", "username": "{name}", "password": "{WRONG}"}}',
        f'{{"\\u0075sername": "{name}", "password": "{WRONG}"}}',
        json.dumps({"username": name, "password": WRONG}) + " " * 30_000,
        json.dumps({"password": WRONG, "username": name}, indent=4),
    ]
    for text in [*hidden, hidden[0]]:
        assert _send_text(limited, address, text) == 401
    assert _send_text(limited, address, hidden[1]) == 429


def _send_text(service: Service, address: str, text: str) -> int:
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
    return httpx.post(service.url + LOGIN, content=text.encode(), headers=headers, timeout=30).status_code


# -- finding out names -----------------------------------------------------------------


def web_seconds(service: Service) -> float:
    """Processor time that the web processes have used: unlike the time to an answer it knows no other load."""
    root = psutil.Process(service.web.pids()["web"])
    used = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    return sum(each.user + each.system for each in used)


ROUNDS, PER_ROUND = 4, 4


def test_a_login_costs_the_same_whether_or_not_there_is_such_an_account(cast: Cast) -> None:
    """Hashing is nine tenths of the work; without it a refusal would cost a tenth."""
    names: dict[str, Callable[[], str]] = {
        "known": lambda: cast.player.username,
        "unknown": partial(new_name, "nobody"),
        "banned": lambda: cast.banned.username,
        "staff": lambda: cast.admin.username,
    }
    api = Api(cast.url)
    assert {name() for name in names.values()}, "all of them are made before it counts"
    spent = dict.fromkeys(names, 0.0)
    for _ in range(ROUNDS):
        for kind, name in names.items():
            before = web_seconds(cast.service)
            for _ in range(PER_ROUND):
                assert_refused(api.post(LOGIN, {"username": name(), "password": WRONG}), 401, "INVALID_CREDENTIALS")
            spent[kind] += web_seconds(cast.service) - before
    for kind, seconds in spent.items():
        assert 0.5 < seconds / spent["known"] < 2, (kind, spent)


def test_a_refused_login_says_the_same_of_everybody(cast: Cast) -> None:
    api = Api(cast.url)
    names = [cast.player.username, new_name("nobody"), cast.banned.username, cast.admin.username, "x", "é" * 200]
    answers = [api.post(LOGIN, {"username": name, "password": WRONG}) for name in names]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers)) for answer in answers}) == 1


def test_a_taken_name_or_address_tells_nothing_more_about_its_owner(cast: Cast) -> None:
    taken = [
        (registration(username=cast.victim.username), "USERNAME_TAKEN"),
        (registration(email=cast.victim.email), "EMAIL_TAKEN"),
        (registration(username=cast.banned.username), "USERNAME_TAKEN"),
        (registration(username=cast.admin.username), "USERNAME_TAKEN"),
    ]
    for body, code in taken:
        answer = Api(cast.url).post(REGISTER, body)
        assert_refused(answer, 409, code)
        assert answer.json()["error"]["details"] == {}
        assert cast.victim.id not in answer.text


def test_a_refusal_never_repeats_a_password(cast: Cast) -> None:
    secret = f"s3cret-{uuid4().hex}"
    bodies: list[Json] = [
        registration(password=secret, username="x"),
        registration(password=[secret]),
        registration(password=secret * 20),
        {"username": cast.player.username, "password": {"$ne": secret}},
        {"username": cast.player.username, "password": secret, "again": secret},
    ]
    for body in bodies:
        for path in (REGISTER, LOGIN):
            answer = Api(cast.url).post(path, body)
            assert answer.status_code in (400, 401)
            assert secret not in answer.text


# -- filling tables --------------------------------------------------------------------


@pytest.fixture
def signed_in(limited: Service) -> Player:
    return register_at(limited, next(_addresses))


def register_at(service: Service, address: str) -> Player:
    body = registration()
    data = data_of(at(service, address).post(REGISTER, body), 201)
    user = data["user"]
    return Player(service.url, user["id"], user["username"], body["email"], data["accessToken"], data["refreshToken"])


@pytest.mark.parametrize("is_signed_in", [False, True])
def test_new_accounts_are_limited_also_for_who_has_one(
    limited: Service, signed_in: Player, address: str, is_signed_in: bool
) -> None:
    """Registering does not look at credentials, so bringing some makes no room."""
    api = at(limited, address, signed_in.access_token if is_signed_in else None)
    # Refused or not is all one to the limit, and costs less here.
    answers = [api.post(REGISTER, registration(username="x")) for _ in range(ANONYMOUS_MAX + 1)]
    assert [answer.status_code for answer in answers] == [400] * ANONYMOUS_MAX + [429]


def test_refreshing_is_limited_also_for_who_is_signed_in(limited: Service, signed_in: Player, address: str) -> None:
    api = at(limited, address, signed_in.access_token)
    answers = [api.post("/v1/auth/refresh", {"refreshToken": "x"}) for _ in range(ANONYMOUS_MAX + 1)]
    assert [answer.status_code for answer in answers] == [401] * ANONYMOUS_MAX + [429]


def test_what_a_signed_in_caller_does_as_such_does_not_count_as_anonymous(
    limited: Service, signed_in: Player, address: str
) -> None:
    api = at(limited, address, signed_in.access_token)
    for _ in range(ANONYMOUS_MAX + 2):
        data_of(api.get("/v1/users/me/history"))


def test_an_expired_token_is_told_so_however_busy_the_neighbours_are(
    limited: Service, signed_in: Player, address: str
) -> None:
    """Or the page would not know that it has to refresh. It counts for its account, and has an end there."""
    path = "/v1/users/me/history"
    refused = [at(limited, address).get(path) for _ in range(ANONYMOUS_MAX + 1)]
    assert [answer.status_code for answer in refused] == [401] * ANONYMOUS_MAX + [429]
    claims = claims_of(signed_in.access_token)
    token = jwt.encode({**claims, "exp": claims["iat"] - 1}, SECRETS["JWT_SECRET"], "HS256")
    for _ in range(ANONYMOUS_MAX):
        assert_refused(at(limited, address, token).get(path), 401, "TOKEN_EXPIRED")
    assert at(limited, address, token).get(path).status_code == 429
    assert at(limited, next(_addresses), token).get(path).status_code == 429
