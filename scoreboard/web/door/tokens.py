"""Access and refresh tokens: JSON Web Tokens of flask-jwt-extended; one algorithm, every claim required."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
from flask import Flask
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token
from jwt import ExpiredSignatureError, PyJWTError

from config import Settings
from scoreboard.domain.errors import InvalidToken, TokenExpired
from scoreboard.services.accounts.sessions import OpenSession
from scoreboard.web.api import responses
from scoreboard.web.door.cookies import cookie_settings

ISSUER = "scoreboard"
AUDIENCE = "scoreboard-api"
# The library looks at this machine's clock, which may be wrong by a zone; what counts is judged by the database's.
_CLOCKS_APART_S = 86_400
# Two processes know the database's clock to some milliseconds, and the times in a token are whole seconds.
_SAME_CLOCK_S = 2


class Tokens:
    """Makes and checks tokens; ``clock`` is the one that all processes share, in Unix seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        has_pair = bool(settings.jwt_private_key and settings.jwt_public_keys)
        self._public_keys: dict[str, str] = json.loads(settings.jwt_public_keys or "{}") if has_pair else {}
        self._algorithms = ["RS256"] if has_pair else ["HS256"]

    def init_app(self, app: Flask) -> None:
        """Configure flask-jwt-extended."""
        settings = self._settings
        app.config.update(
            JWT_TOKEN_LOCATION=["headers", "cookies"],
            JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=settings.jwt_access_ttl_s),
            JWT_REFRESH_TOKEN_EXPIRES=timedelta(seconds=settings.jwt_refresh_ttl_s),
            JWT_ENCODE_ISSUER=ISSUER,
            JWT_DECODE_ISSUER=ISSUER,
            JWT_ENCODE_AUDIENCE=AUDIENCE,
            JWT_DECODE_AUDIENCE=AUDIENCE,
            JWT_DECODE_LEEWAY=_CLOCKS_APART_S,
            JWT_ALGORITHM=self._algorithms[0],
            JWT_DECODE_ALGORITHMS=self._algorithms,
            **cookie_settings(settings),
        )
        if not self._public_keys:
            app.config["JWT_SECRET_KEY"] = settings.jwt_signing_secret
        manager = JWTManager(app)
        if self._public_keys:
            manager.encode_key_loader(lambda _identity: settings.jwt_private_key)
            manager.decode_key_loader(lambda header, _payload: self._public_key(header))

    def access_token(self, user_id: str, session_id: str) -> str:
        """Needs an application context."""
        claims = {"sid": session_id, "use": "access", **self._times(self._settings.jwt_access_ttl_s)}
        token: str = create_access_token(user_id, additional_claims=claims, additional_headers=self._headers())
        return token

    def sign_in_answer(self, sign_in: OpenSession) -> responses.SignIn:
        """The pair of tokens for a session, and whose it is."""
        identity, session_id = str(sign_in.user.id), str(sign_in.session_id)
        claims = {
            "sid": session_id,
            "use": "refresh",
            "rid": str(sign_in.refresh_id),
            **self._times(self._settings.jwt_refresh_ttl_s),
        }
        access = self.access_token(identity, session_id)
        refresh = create_refresh_token(identity, additional_claims=claims, additional_headers=self._headers())
        user = sign_in.user
        return responses.SignIn(
            accessToken=access,
            refreshToken=refresh,
            expiresIn=self._settings.jwt_access_ttl_s,
            user=responses.SignedInUser(id=user.id, username=user.username, role=user.role, score=user.score),
        )

    def read(self, token: str, use: str, check: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """The claims of a token for this use, ``access`` or ``refresh``.

        Its signature is checked once: flask-jwt-extended takes a token apart three times, which cost as much as all
        else about a caller who is seen first. ``check`` looks at the claims of a token that is signed by us and not
        long expired, before its use and exact times are looked at. Raises InvalidToken, TokenExpired, and what
        ``check`` raises.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key_of(token),
                algorithms=self._algorithms,
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=_CLOCKS_APART_S,
            )
        except ExpiredSignatureError:
            raise TokenExpired from None
        except PyJWTError:
            raise InvalidToken from None
        if check is not None:
            check(claims)
        return self._checked(claims, use)

    def is_over(self, expires_at: int) -> bool:
        """Whether this moment, in Unix seconds, is past; by the clock that all processes share."""
        return expires_at <= self._clock()

    def _checked(self, claims: dict[str, Any], use: str) -> dict[str, Any]:
        """A token that lacks a claim, or was made for another use, is no token of ours."""
        try:
            UUID(claims["sid"])
            UUID(claims["sub"])
            is_ours = claims["use"] == use and claims["type"] == use and bool(claims["jti"])
            expires_at, not_before = int(claims["exp"]), max(int(claims["iat"]), int(claims["nbf"]))
            if use == "refresh":
                UUID(claims["rid"])
        except (KeyError, ValueError, TypeError, AttributeError):
            raise InvalidToken from None
        if not is_ours or not_before > self._clock() + _SAME_CLOCK_S:
            raise InvalidToken
        if self.is_over(expires_at):
            raise TokenExpired(claims["sub"])
        return claims

    def _times(self, ttl_s: int) -> dict[str, int]:
        """The times in a token, by the clock that all processes share instead of the library's."""
        now = int(self._clock())
        return {"iat": now, "nbf": now, "exp": now + ttl_s}

    def _headers(self) -> dict[str, str] | None:
        return {"kid": next(iter(self._public_keys))} if self._public_keys else None

    def _key_of(self, token: str) -> str:
        return self._public_key(jwt.get_unverified_header(token)) if self._public_keys else self._secret

    @property
    def _secret(self) -> str:
        return self._settings.jwt_signing_secret

    def _public_key(self, header: dict[str, Any]) -> str:
        try:
            return self._public_keys[header["kid"]]
        except (KeyError, TypeError):
            raise InvalidToken from None
