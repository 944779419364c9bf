"""Every kind of bad token × every place that takes one: refused with the right code, and nothing has changed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from scoreboard.services.actions.tokens import TokenBox
from tests.functional.client import Api, Json, Player, assert_refused, completion, data_of, eventually, register
from tests.functional.sse import SseClient
from tests.security.beside import web_beside
from tests.security.cast import Cast
from tests.security.doors import REQUESTS, Door, all_doors, knock
from tests.security.forge import FORGED, claims_of, hs256, signed, without
from tests.security.pages_fortress import Fortress
from tests.security.raw import exchange, request
from tests.security.who import TABLE, Who
from tests.service import Service

OWN_SCORE = "/v1/users/me/score"
REFRESH = "/v1/auth/refresh"
STREAM = "/v1/leaderboard/stream"
# A longer one in a body is malformed.
BODY_TOKEN_MAX = 4096
# Wherever an access token is looked at; every one of these goes the same way.
TAKING = [door for door in all_doors() if TABLE[door] not in (Who.ANYBODY, Who.OPERATOR)]
# One of each kind of them: read and write, with and without a limit or a body, for signed-in callers, for admins, for
# everybody unless the credential is bad, and the stream.
KINDS = [
    Door("GET", "/v1/users/me/score"),
    Door("GET", "/v1/users/me/history"),
    Door("GET", "/v1/actions/types"),
    Door("GET", "/v1/leaderboard"),
    Door("GET", "/v1/leaderboard/stream"),
    Door("POST", "/v1/stream/ticket"),
    Door("POST", "/v1/actions/complete"),
    Door("GET", "/v1/admin/users"),
    Door("POST", "/v1/admin/users/<uuid:user_id>/ban"),
]


@pytest.fixture(scope="module", autouse=True)
def _nothing_changes(cast: Cast) -> Iterator[None]:
    """Whatever is refused in this module leaves everything of the victim's as it was, and the sessions alive."""
    before = cast.snapshot()
    yield
    assert cast.snapshot() == before
    data_of(Api(cast.url).post(REFRESH, {"refreshToken": cast.victim.refresh_token}))


# -- access tokens ---------------------------------------------------------------------


def forged_access(cast: Cast, kind: str, player: Player | None = None) -> str:
    """From an admin's token, unless said otherwise: it would open every door."""
    return FORGED[kind](cast.forge, claims_of((player or cast.admin).access_token))


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_access_token_opens_no_door(cast: Cast, kind: str) -> None:
    api = Api(cast.url, forged_access(cast, kind))
    for door in TAKING if kind == "another secret" else KINDS:
        _assert_shut(api, cast, door, 401, "INVALID_TOKEN")


def _assert_shut(api: Api, cast: Cast, door: Door, status: int, code: str) -> None:
    try:
        assert_refused(knock(api, door, REQUESTS[door](cast, None)), status, code)
    except AssertionError as error:
        raise AssertionError(f"{door}: {error}") from None


def test_tokens_of_another_purpose_open_no_door(cast: Cast) -> None:
    ticket = data_of(cast.victim.api.post("/v1/stream/ticket"))["ticket"]
    untyped = cast.forge.sign(without(claims_of(cast.admin.refresh_token), "type"))
    action = cast.open_action
    for token in (cast.victim.refresh_token, untyped, ticket, action["actionToken"], action["proofKey"]):
        for door in KINDS:
            _assert_shut(Api(cast.url, token), cast, door, 401, "INVALID_TOKEN")


def test_sessions_that_are_over_open_no_door(cast: Cast) -> None:
    """Logged out, banned, expired: signed by the service itself, and refused all the same."""
    replaced = register(cast.url)
    for _ in range(2):
        Api(cast.url).post(REFRESH, {"refreshToken": replaced.refresh_token})
    ended = [
        (cast.logged_out.access_token, 401, "INVALID_TOKEN"),
        (replaced.access_token, 401, "INVALID_TOKEN"),
        (cast.banned.access_token, 403, "ACCOUNT_BANNED"),
        (cast.expired, 401, "TOKEN_EXPIRED"),
    ]
    for token, status, code in ended:
        for door in KINDS:
            _assert_shut(Api(cast.url, token), cast, door, status, code)


def test_a_session_opens_nothing_for_another_account(cast: Cast) -> None:
    mixed = cast.forge.sign({**claims_of(cast.player.access_token), "sub": cast.admin.id})
    for door in TAKING:
        _assert_shut(Api(cast.url, mixed), cast, door, 401, "INVALID_TOKEN")


def test_a_claim_to_be_admin_makes_nobody_one(cast: Cast) -> None:
    """The role comes from the database, whatever a well-signed token says."""
    boast = cast.forge.sign({**claims_of(cast.player.access_token), "role": "admin", "admin": True, "scope": "*"})
    assert data_of(Api(cast.url, boast).get(OWN_SCORE))["userId"] == cast.player.id
    assert_refused(Api(cast.url, boast).get("/v1/admin/users"), 403, "INSUFFICIENT_PERMISSIONS")


def test_each_change_of_a_good_token_is_noticed(cast: Cast) -> None:
    token = cast.victim.access_token
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        # The last sign of a part may carry bits that mean nothing.
        if base64_of(changed) != base64_of(token):
            assert_refused(Api(cast.url, changed).get(OWN_SCORE), 401, "INVALID_TOKEN")


def base64_of(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]


# -- the wrong place -------------------------------------------------------------------

MISPLACED: dict[str, Callable[[str], dict[str, object]]] = {
    "query access_token": lambda token: {"params": {"access_token": token}},
    "query token": lambda token: {"params": {"token": token}},
    "query jwt": lambda token: {"params": {"jwt": token}},
    "query ticket": lambda token: {"params": {"ticket": token}},
    "X-Access-Token": lambda token: {"headers": {"X-Access-Token": token}},
    "Proxy-Authorization": lambda token: {"headers": {"Proxy-Authorization": f"Bearer {token}"}},
    "X-CSRF-TOKEN": lambda token: {"headers": {"X-CSRF-TOKEN": token}},
    "refresh cookie": lambda token: {"headers": {"Cookie": f"refresh_token_cookie={token}"}},
    "another cookie": lambda token: {"headers": {"Cookie": f"token={token}; session={token}; Authorization={token}"}},
    "basic password": lambda token: {
        "headers": {"Authorization": "Basic " + base64.b64encode(f"x:{token}".encode()).decode()}
    },
    "another scheme": lambda token: {"headers": {"Authorization": f"Token {token}"}},
    "no scheme": lambda token: {"headers": {"Authorization": token}},
    "body": lambda token: {"json": {"accessToken": token, "access_token": token}},
}


@pytest.mark.parametrize("place", MISPLACED)
def test_a_good_token_in_the_wrong_place_is_none(cast: Cast, place: str) -> None:
    for door in (door for door in KINDS if TABLE[door] in (Who.SIGNED_IN, Who.ADMIN)):
        options = MISPLACED[place](cast.admin.access_token)
        answer = Api(cast.url).call(door.method, REQUESTS[door](cast, None).path, **options)
        assert_refused(answer, 401, "INVALID_TOKEN")


def test_a_token_in_an_address_opens_no_stream(cast: Cast) -> None:
    answer = Api(cast.url).call("GET", STREAM, **MISPLACED["query ticket"](cast.victim.access_token))
    assert_refused(answer, 401, "INVALID_TOKEN")


def test_a_token_under_another_name_opens_the_stream_as_nobody(cast: Cast) -> None:
    given = uuid4().hex
    params = {"access_token": cast.victim.access_token}
    with SseClient(cast.url + STREAM, headers={"X-Request-ID": given}, params=params) as stream:
        stream.wait_for("leaderboard:initial")
        (line,) = eventually(lambda: [line for line in cast.service.lines if given in line], bool, 20)
    assert json.loads(line.partition("| ")[2])["user_id"] is None


# -- schemes ---------------------------------------------------------------------------

# Scheme and token, as they may be written.
BEARERS = [
    "bearer {}",
    "BEARER {}",
    "Bearer   {}",
    "bEaReR\t{}",
    "Basic eDp5, Bearer {}",
    "bearer {},Negotiate",
]
FOREIGN = [
    "Basic eDp5",
    "basic",
    'Digest username="x", realm="a, b", nonce="c", uri="/", response="d"',
    "Negotiate YII=",
    "NTLM TlRM",
    "Token {}",
    "{}",
    "",
    ",",
    "=",
]
MALFORMED = ["Bearer", "Bearer {} {}", "Bearer {}, Bearer {}", "bearer undefined", "Basic eDp5, Bearer"]


@pytest.mark.parametrize("form", BEARERS)
def test_a_scheme_has_no_case_and_any_space(cast: Cast, form: str) -> None:
    api = Api(cast.url, Authorization=form.format(cast.player.access_token))
    assert data_of(api.get(OWN_SCORE))["userId"] == cast.player.id
    with SseClient(cast.url + STREAM, headers=api.headers) as stream:
        stream.wait_for("leaderboard:initial")
    refreshed = register(cast.url)
    data_of(Api(cast.url, Authorization=form.format(refreshed.refresh_token)).post(REFRESH))


def test_a_header_for_each_scheme_is_read_as_one(cast: Cast) -> None:
    lines = ["Authorization: Basic eDp5", f"Authorization: Bearer {cast.player.access_token}"]
    for order in (lines, lines[::-1]):
        answer = exchange(cast.url, request(f"GET {OWN_SCORE}", *order))
        assert answer.json()["data"]["userId"] == cast.player.id


@pytest.mark.parametrize("form", FOREIGN)
def test_a_foreign_scheme_is_no_token_at_all(cast: Cast, form: str) -> None:
    """A gate in front of the service asks for it: what is public stays so, and cookies count."""
    foreign = {"Authorization": form.format(cast.player.access_token)}
    data_of(Api(cast.url, **foreign).get("/v1/leaderboard"))
    data_of(Api(cast.url, **foreign).get("/v1/actions/types"))
    with SseClient(cast.url + STREAM, headers=foreign) as stream:
        stream.wait_for("leaderboard:initial")
    assert_refused(Api(cast.url, **foreign).get(OWN_SCORE), 401, "INVALID_TOKEN")
    token, refresh = cast.player.access_token, register(cast.url).refresh_token
    with_cookie = Api(cast.url, **foreign, Cookie=f"access_token_cookie={token}; refresh_token_cookie={refresh}")
    assert data_of(with_cookie.get(OWN_SCORE))["userId"] == cast.player.id
    # A cookie signs nothing without its proof, and opens no stream for another site, whatever stands beside it.
    assert_refused(with_cookie.post("/v1/stream/ticket"), 403, "CSRF_FAILED")
    assert_refused(with_cookie.post(REFRESH), 403, "CSRF_FAILED")
    data_of(with_cookie.post("/v1/stream/ticket", **{"X-CSRF-TOKEN": csrf_of(token)}))
    data_of(with_cookie.post(REFRESH, **{"X-CSRF-TOKEN": csrf_of(refresh)}))
    elsewhere = {"Origin": "https://stranger.example"}
    assert_refused(with_cookie.call("GET", STREAM, headers=elsewhere), 403, "INSUFFICIENT_PERMISSIONS")


@pytest.mark.parametrize("form", MALFORMED)
def test_a_malformed_bearer_is_refused_also_where_none_is_needed(cast: Cast, form: str) -> None:
    api = Api(cast.url, Authorization=form.format(*[cast.player.access_token] * 2))
    for path in (OWN_SCORE, "/v1/leaderboard", STREAM, "/v1/actions/types"):
        assert_refused(api.get(path), 401, "INVALID_TOKEN")
    assert_refused(api.post(REFRESH), 401, "INVALID_TOKEN")


@pytest.mark.parametrize("path", ["/metrics", "/health/detailed"])
def test_an_operators_token_is_read_in_the_same_way(fortress: Fortress, path: str) -> None:
    token = fortress.secrets["OPERATOR_TOKEN"]
    statuses = {
        form: fortress.call("GET", path, headers={"Authorization": form}).status_code
        for form in (
            f"bearer {token}",
            f"BEARER  {token}",
            f"Basic eDp5, Bearer {token}",
            f"Basic {token}",
            token,
            f"Bearer {token}x",
        )
    }
    assert list(statuses.values()) == [200, 200, 200, 401, 401, 401], statuses


# -- cookies ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_cookie_is_no_better(cast: Cast, kind: str) -> None:
    token = forged_access(cast, kind)
    headers = {"Cookie": f"access_token_cookie={token}", "X-CSRF-TOKEN": csrf_of(token)}
    api = Api(cast.url)
    for method, path in (("GET", OWN_SCORE), ("POST", "/v1/stream/ticket"), ("GET", STREAM)):
        assert_refused(api.call(method, path, headers=headers), 401, "INVALID_TOKEN")


# -- refresh tokens --------------------------------------------------------------------

_REFRESH_ONLY: dict[str, Callable[[Cast, Json], str]] = {
    "type access": lambda cast, claims: cast.forge.sign({**claims, "type": "access"}),
    "use access": lambda cast, claims: cast.forge.sign({**claims, "use": "access"}),
    "no rid": lambda cast, claims: cast.forge.sign({key: claims[key] for key in claims if key != "rid"}),
    "rid no id": lambda cast, claims: cast.forge.sign({**claims, "rid": "*"}),
    "rid a number": lambda cast, claims: cast.forge.sign({**claims, "rid": 7}),
}
# These are made from a refresh token, whose type and use are as they say.
_OF_ACCESS_ONLY = ("type refresh", "use refresh")


def bad_refresh_tokens(cast: Cast) -> dict[str, str]:
    claims = claims_of(cast.victim.refresh_token)
    common = {kind: make(cast.forge, claims) for kind, make in FORGED.items() if kind not in _OF_ACCESS_ONLY}
    # A session's account comes from the session, so these two do no harm to anybody.
    for kind in ("nobody's account", "sub twice, the last not ours"):
        del common[kind]
    return {
        **common,
        **{kind: make(cast, claims) for kind, make in _REFRESH_ONLY.items()},
        "an access token": cast.victim.access_token,
        "an action token": cast.open_action["actionToken"],
        "a ticket": data_of(cast.victim.api.post("/v1/stream/ticket"))["ticket"],
    }


def test_what_is_no_refresh_token_of_ours_renews_nothing_in_any_place(cast: Cast) -> None:
    """And it ends nothing either: a forger could throw people out else. See the fixture above."""
    for kind, token in bad_refresh_tokens(cast).items():
        cookie = {"Cookie": f"refresh_token_cookie={token}", "X-CSRF-TOKEN": csrf_of(token)}
        if len(token) <= BODY_TOKEN_MAX:
            answer = Api(cast.url).post(REFRESH, {"refreshToken": token})
            assert (answer.status_code, kind) == (401, kind), answer.text
        for answer in (Api(cast.url, token).post(REFRESH), Api(cast.url).post(REFRESH, None, **cookie)):
            assert (answer.status_code, kind) == (401, kind), answer.text
            assert answer.json()["error"]["code"] == "INVALID_TOKEN", kind


def csrf_of(token: str) -> str:
    """The proof that goes with a token in a cookie, if the token can be read at all."""
    try:
        return str(claims_of(token).get("csrf", "x"))
    except (jwt.PyJWTError, ValueError):
        return "x"


def test_refresh_tokens_of_sessions_that_are_over_renew_nothing(cast: Cast) -> None:
    stale = cast.forge.stale_access(register(cast.url).refresh_token)
    ended = [
        (stale, 401, "TOKEN_EXPIRED"),
        (cast.logged_out.refresh_token, 401, "INVALID_TOKEN"),
        (cast.banned.refresh_token, 403, "ACCOUNT_BANNED"),
    ]
    for token, status, code in ended:
        assert_refused(Api(cast.url).post(REFRESH, {"refreshToken": token}), status, code)
        assert_refused(Api(cast.url, token).post(REFRESH), status, code)


# -- tickets and action tokens ---------------------------------------------------------


def fernet_forgeries(cast: Cast, good: str) -> dict[str, str]:
    """Kinds of sealed texts that this service did not seal for this purpose."""
    plain = json.dumps(["0" * 32, cast.victim.id, "SOLVE_PROBLEM", "key"]).encode()
    raw = base64.urlsafe_b64decode(good)
    return {
        "another key": Fernet(Fernet.generate_key()).encrypt(plain).decode(),
        "the configured key, not the derived one": Fernet(cast.forge.action_key).encrypt(plain).decode(),
        "another service's": TokenBox([Fernet.generate_key().decode()]).seal_action(
            UUID(cast.open_action["actionId"]), UUID(cast.victim.id), "SOLVE_PROBLEM"
        )[0],
        "cut": base64.urlsafe_b64encode(raw[:-16]).decode(),
        "a bit turned": base64.urlsafe_b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode(),
        "another version": base64.urlsafe_b64encode(b"\x81" + raw[1:]).decode(),
        # Of an action token the time is 0.
        "another time": base64.urlsafe_b64encode(raw[:1] + b"\1" * 8 + raw[9:]).decode(),
        "doubled": good + good,
        "an access token": cast.victim.access_token,
        "a refresh token": cast.victim.refresh_token,
        "a signed JWT with its claims": hs256({"actionId": cast.open_action["actionId"]}, cast.forge.secret),
        "text": "not a token",
    }


def test_what_is_no_ticket_of_ours_opens_no_stream(cast: Cast) -> None:
    ticket = data_of(cast.victim.api.post("/v1/stream/ticket"))["ticket"]
    bad = {**fernet_forgeries(cast, ticket), "an action token": cast.open_action["actionToken"]}
    for kind, token in bad.items():
        answer = Api(cast.url).get(STREAM, ticket=token)
        assert (answer.status_code, answer.json()["error"]["code"], kind) == (401, "INVALID_TOKEN", kind)


def test_tickets_of_sessions_that_are_over_open_no_stream(cast: Cast) -> None:
    player, banned = register(cast.url), register(cast.url)
    tickets = [data_of(each.api.post("/v1/stream/ticket"))["ticket"] for each in (player, banned)]
    data_of(player.api.post("/v1/auth/logout"))
    cast.admin.act(banned.id, "ban")
    assert_refused(Api(cast.url).get(STREAM, ticket=tickets[0]), 401, "INVALID_TOKEN")
    assert_refused(Api(cast.url).get(STREAM, ticket=tickets[1]), 403, "ACCOUNT_BANNED")


def test_a_ticket_is_worth_nothing_anywhere_else(cast: Cast) -> None:
    ticket = data_of(cast.victim.api.post("/v1/stream/ticket"))["ticket"]
    for path in (OWN_SCORE, "/v1/users/me/history", "/v1/leaderboard/around/me"):
        assert_refused(Api(cast.url).get(path, ticket=ticket), 401, "INVALID_TOKEN")


def test_what_is_no_action_token_of_ours_completes_nothing(cast: Cast) -> None:
    good = cast.open_action["actionToken"]
    ticket = data_of(cast.victim.api.post("/v1/stream/ticket"))["ticket"]
    for kind, token in {**fernet_forgeries(cast, good), "a ticket": ticket}.items():
        body = {**completion(cast.open_action), "actionToken": token[:1024]}
        answer = cast.victim.api.post("/v1/actions/complete", body)
        assert (answer.status_code, answer.json()["error"]["code"], kind) == (400, "INVALID_ACTION_TOKEN", kind)


# -- key pairs -------------------------------------------------------------------------


@dataclass(frozen=True)
class Keyed:
    """A web process that signs with a private key, and what a forger may know or have."""

    service: Service
    private: rsa.RSAPrivateKey
    public_pem: str

    def claims(self, player: Player) -> Json:
        return claims_of(player.access_token)


@pytest.fixture(scope="module")
def keyed(service: Service) -> Iterator[Keyed]:
    private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    public_pem = _public(private)
    settings = {"JWT_PRIVATE_KEY": _private(private), "JWT_PUBLIC_KEYS": json.dumps({"ours": public_pem})}
    with web_beside(service, JWT_SECRET="", WEB_CONCURRENCY="1", **settings) as beside:
        yield Keyed(beside, private, public_pem)


def _private(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _public(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def keyed_forgeries(keyed: Keyed, claims: Json, development_secret: str) -> dict[str, str]:
    """What confuses services that let a token choose its own algorithm or key."""
    ours, public = {"kid": "ours"}, keyed.public_pem
    foreign = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    curve = ec.generate_private_key(ec.SECP256R1())
    return {
        "HS256 with the public key": hs256(claims, public, **ours),
        "HS256 with the public key, no line end": hs256(claims, public.strip(), **ours),
        "HS384 with the public key": signed({"alg": "HS384", **ours}, claims, public.encode(), hashlib.sha384),
        "HS256 with the development secret": hs256(claims, development_secret, **ours),
        "RS256 with a foreign key": jwt.encode(claims, foreign, "RS256", ours),
        "RS384 with our key": jwt.encode(claims, keyed.private, "RS384", ours),
        "PS256 with our key": jwt.encode(claims, keyed.private, "PS256", ours),
        "ES256 with a curve": jwt.encode(claims, curve, "ES256", ours),
        "none": jwt.encode(claims, "", "none", ours),
        "no kid": jwt.encode(claims, keyed.private, "RS256"),
        "an unknown kid": jwt.encode(claims, keyed.private, "RS256", {"kid": "theirs"}),
        "an empty kid": jwt.encode(claims, keyed.private, "RS256", {"kid": ""}),
        "kid a path": hs256(claims, "", kid="../../../../dev/null"),
        "kid a list": signed({"alg": "RS256", "kid": ["ours"]}, claims, b"x", hashlib.sha256),
        "kid an object": signed({"alg": "RS256", "kid": {"ours": 1}}, claims, b"x", hashlib.sha256),
        "kid a number": signed({"alg": "RS256", "kid": 0}, claims, b"x", hashlib.sha256),
        "RS256 with an HMAC of the public key": signed(
            {"alg": "RS256", **ours}, claims, public.encode(), hashlib.sha256
        ),
        "a key of its own inside": jwt.encode(
            claims, foreign, "RS256", {**ours, "jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(foreign))}
        ),
    }


def test_no_confusion_of_keys_and_algorithms_opens_anything(keyed: Keyed, cast: Cast) -> None:
    player = register(keyed.service.url)
    assert player.score()["score"] == 0, "the service's own tokens are good"
    access = keyed_forgeries(keyed, keyed.claims(player), cast.forge.secret)
    refresh = keyed_forgeries(keyed, claims_of(player.refresh_token), cast.forge.secret)
    url = keyed.service.url
    for kind, token in access.items():
        for path in (OWN_SCORE, "/v1/leaderboard", STREAM):
            _assert_invalid(Api(url, token).get(path), kind)
        _assert_invalid(Api(url, Cookie=f"access_token_cookie={token}").get(OWN_SCORE), kind)
        _assert_invalid(Api(url).post(REFRESH, {"refreshToken": refresh[kind]}), kind)
        _assert_invalid(Api(url, refresh[kind]).post(REFRESH), kind)
    assert player.score()["score"] == 0
    data_of(Api(url).post(REFRESH, {"refreshToken": player.refresh_token}))


def _assert_invalid(answer: httpx.Response, kind: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"], kind) == (401, "INVALID_TOKEN", kind)


def test_tokens_of_one_service_are_nothing_to_another(keyed: Keyed, cast: Cast) -> None:
    """The accounts and sessions are the same, the keys are not."""
    foreign = register(keyed.service.url)
    assert_refused(Api(cast.url, foreign.access_token).get(OWN_SCORE), 401, "INVALID_TOKEN")
    assert_refused(Api(keyed.service.url, cast.player.access_token).get(OWN_SCORE), 401, "INVALID_TOKEN")
