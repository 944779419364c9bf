"""Tokens that must be refused, made with and without the service's own keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from config import Settings
from tests.functional.client import Json
from tests.service import Service

HOUR_S = 3600
# Without one of these a token is none of ours. The library takes one without a type for an access token, so that
# is what "use" is for.
CLAIMS = ("sub", "sid", "exp", "iat", "nbf", "jti", "iss", "aud", "use")


@dataclass(frozen=True)
class Forge:
    """Makes tokens with a service's own secrets, as only the service should be able to."""

    secret: str
    action_key: str

    @classmethod
    def of(cls, service: Service) -> Forge:
        """With the secrets that this service runs with."""
        names = ("jwt_secret", "action_token_keys")
        given = {name: service.settings_env[name.upper()] for name in names if name.upper() in service.settings_env}
        settings = Settings.load(**given)
        return cls(settings.jwt_signing_secret, settings.action_keys[0])

    def sign(self, claims: Mapping[str, object], **header: object) -> str:
        """A token of ours in every respect but these claims and headers."""
        return hs256(claims, self.secret, **header)

    def stale_access(self, token: str) -> str:
        """The same token as if made two hours ago, for an hour."""
        now = int(time.time())
        return self.sign({**claims_of(token), "iat": now - 2 * HOUR_S, "nbf": now - 2 * HOUR_S, "exp": now - HOUR_S})


def claims_of(token: str) -> Json:
    claims: Json = jwt.decode(token, options={"verify_signature": False})
    return claims


def encoded(part: bytes | Mapping[str, object]) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Mapping[str, object], payload: bytes | Mapping[str, object], key: bytes, digest: Any) -> str:
    """A token with an HMAC, by hand: a library refuses to make most of these."""
    message = f"{encoded(header)}.{encoded(payload)}"
    return f"{message}.{encoded(hmac.new(key, message.encode(), digest).digest())}"


def hs256(claims: bytes | Mapping[str, object], key: str | bytes, **header: object) -> str:
    raw = key.encode() if isinstance(key, str) else key
    return signed({"alg": "HS256", "typ": "JWT", **header}, claims, raw, hashlib.sha256)


def without(claims: Json, name: str) -> Json:
    return {key: value for key, value in claims.items() if key != name}


Make = Callable[[Forge, Json], str]


def _changed(**changes: object) -> Make:
    return lambda forge, claims: forge.sign({**claims, **changes})


def _lacking(name: str) -> Make:
    return lambda forge, claims: forge.sign(without(claims, name))


def _raw_claim(name: str, raw: str) -> Make:
    """A claim whose JSON is written by hand."""

    def make(forge: Forge, claims: Json) -> str:
        text = json.dumps({**claims, name: "HERE"}).replace('"HERE"', raw)
        return hs256(text.encode(), forge.secret)

    return make


def _headed(**header: object) -> Make:
    """Signed with a foreign key, under a header that says where to find it."""
    return lambda _, claims: hs256(claims, "", **header)


#: Kind → how to make it from the claims of a good token. None of them opens anything; the code is INVALID_TOKEN.
FORGED: dict[str, Make] = {
    # Another key.
    "another secret": lambda _, claims: hs256(claims, "x" * 64),
    "an empty secret": lambda _, claims: hs256(claims, ""),
    "the secret of action tokens": lambda forge, claims: hs256(claims, forge.action_key),
    "the raw key of action tokens": lambda forge, claims: hs256(claims, base64.urlsafe_b64decode(forge.action_key)),
    # Another algorithm.
    "alg none": lambda _, claims: f"{encoded({'alg': 'none'})}.{encoded(claims)}.",
    "alg nOnE": lambda _, claims: f"{encoded({'alg': 'nOnE'})}.{encoded(claims)}.",
    "alg empty": lambda _, claims: f"{encoded({'alg': ''})}.{encoded(claims)}.",
    "alg missing": lambda forge, claims: signed({"typ": "JWT"}, claims, forge.secret.encode(), hashlib.sha256),
    "alg a list": lambda forge, claims: signed({"alg": ["HS256"]}, claims, forge.secret.encode(), hashlib.sha256),
    "HS384 with our secret": lambda forge, claims: signed(
        {"alg": "HS384"}, claims, forge.secret.encode(), hashlib.sha384
    ),
    "HS512 with our secret": lambda forge, claims: signed(
        {"alg": "HS512"}, claims, forge.secret.encode(), hashlib.sha512
    ),
    "RS256 with an HMAC": lambda forge, claims: signed({"alg": "RS256"}, claims, forge.secret.encode(), hashlib.sha256),
    "ES256 with zeros": lambda _, claims: f"{encoded({'alg': 'ES256'})}.{encoded(claims)}.{encoded(bytes(64))}",
    # Another issuer, audience, kind, time, account; all signed with our own secret.
    "another issuer": _changed(iss="elsewhere"),
    "another audience": _changed(aud="elsewhere"),
    "many audiences but ours": _changed(aud=["elsewhere", "scoreboard"]),
    "type refresh": _changed(type="refresh"),
    "use refresh": _changed(use="refresh"),
    "another use": _changed(use="ticket"),
    "not valid yet": lambda forge, claims: forge.sign({**claims, "nbf": int(time.time()) + HOUR_S}),
    "issued in the future": lambda forge, claims: forge.sign({**claims, "iat": int(time.time()) + HOUR_S}),
    "nobody's account": _changed(sub="00000000-0000-4000-8000-000000000000"),
    "nobody's session": _changed(sid="00000000-0000-4000-8000-000000000000"),
    "sub no id": _changed(sub="admin"),
    "sub SQL": _changed(sub="' OR 1=1 --"),
    "sub a number": _changed(sub=1),
    "sub a list": _changed(sub=["admin"]),
    "sub null": _changed(sub=None),
    "sid no id": _changed(sid="*"),
    "sid a number": _changed(sid=7),
    "sid an object": _changed(sid={"$ne": ""}),
    "jti empty": _changed(jti=""),
    "exp no number": _changed(exp="soon"),
    "exp null": _changed(exp=None),
    "exp NaN": _raw_claim("exp", "NaN"),
    "exp infinite": _raw_claim("exp", "1e400"),
    "iat infinite": _raw_claim("iat", "1e400"),
    "sub twice, the last not ours": _raw_claim("sub", '"x","sub":"00000000-0000-4000-8000-000000000000"'),
    **{f"no {name}": _lacking(name) for name in CLAIMS},
    # Odd payloads, well signed.
    "an empty object": lambda forge, _: forge.sign({}),
    "an array": lambda forge, _: hs256(b"[]", forge.secret),
    "null": lambda forge, _: hs256(b"null", forge.secret),
    "no JSON": lambda forge, _: hs256(b"{", forge.secret),
    "not UTF-8": lambda forge, _: hs256(b'{"sub":"\xff"}', forge.secret),
    "deep JSON": lambda forge, _: hs256(b"[" * 3000 + b"]" * 3000, forge.secret),
    # Headers that name a key.
    "kid a path": _headed(kid="../../../../dev/null"),
    "kid SQL": _headed(kid="x' UNION SELECT '' --"),
    "kid a list": lambda forge, claims: forge.sign(claims, kid=["a"]),
    "kid a number": lambda forge, claims: forge.sign(claims, kid=1),
    "jku elsewhere": _headed(jku="http://127.0.0.1:9/keys.json"),
    "jwk inside": _headed(jwk={"kty": "oct", "k": ""}),
    "x5u elsewhere": _headed(x5u="http://127.0.0.1:9/cert.pem"),
    "unknown critical header": lambda forge, claims: forge.sign(claims, crit=["exp2"], exp2=1),
    # Odd forms of a good token are cut from it by the caller; these are nobody's.
    "garbage": lambda *_: "garbage",
    "two dots": lambda *_: "..",
    "five parts": lambda forge, claims: forge.sign(claims) + ".a.b",
    "no signature": lambda forge, claims: forge.sign(claims).rpartition(".")[0] + ".",
    "one part": lambda forge, claims: forge.sign(claims).partition(".")[0],
    "very long": lambda *_: "a" * 7_000,
}
