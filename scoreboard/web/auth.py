"""Who calls: bearer token, cookie, or stream ticket, checked against the living session."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import Flask, Response, after_this_request, current_app, g, request
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    decode_token,
    get_jwt,
    set_access_cookies,
    set_refresh_cookies,
    unset_jwt_cookies,
    verify_jwt_in_request,
)
from flask_jwt_extended.exceptions import CSRFError, JWTExtendedException, NoAuthorizationError
from jwt import ExpiredSignatureError, PyJWTError

from config import Settings
from scoreboard.domain.errors import AccountBanned, CsrfFailed, InvalidToken, ScoreboardError, TokenExpired
from scoreboard.services import sessions
from scoreboard.services.action_tokens import TicketClaims
from scoreboard.services.sessions import SignIn
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.sessions import Caller
from scoreboard.web.parts import current_parts
from scoreboard.web.verified_tokens import AccessClaims

ISSUER = "scoreboard"
AUDIENCE = "scoreboard-api"
ACCESS_COOKIE, CSRF_HEADER = "access_token_cookie", "X-CSRF-TOKEN"
_API_PATH, _REFRESH_PATH = "/v1", "/v1/auth"


def init_auth(app: Flask, settings: Settings) -> None:
    """Configure flask-jwt-extended: one algorithm, every claim required, safe cookies."""
    app.config.update(
        JWT_TOKEN_LOCATION=["headers", "cookies"],
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=settings.jwt_access_ttl_s),
        JWT_REFRESH_TOKEN_EXPIRES=timedelta(seconds=settings.jwt_refresh_ttl_s),
        JWT_ENCODE_ISSUER=ISSUER,
        JWT_DECODE_ISSUER=ISSUER,
        JWT_ENCODE_AUDIENCE=AUDIENCE,
        JWT_DECODE_AUDIENCE=AUDIENCE,
        JWT_COOKIE_SECURE=settings.is_production,
        JWT_COOKIE_SAMESITE="Lax",
        JWT_COOKIE_CSRF_PROTECT=True,
        JWT_ACCESS_COOKIE_NAME=ACCESS_COOKIE,
        JWT_ACCESS_CSRF_HEADER_NAME=CSRF_HEADER,
        JWT_SESSION_COOKIE=False,
        # Pages never see the tokens themselves; the CSRF cookies must be readable at "/".
        JWT_ACCESS_COOKIE_PATH=_API_PATH,
        JWT_REFRESH_COOKIE_PATH=_REFRESH_PATH,
    )
    if settings.jwt_private_key and settings.jwt_public_keys:
        app.config.update(JWT_ALGORITHM="RS256", JWT_DECODE_ALGORITHMS=["RS256"])
    else:
        app.config.update(
            JWT_ALGORITHM="HS256", JWT_DECODE_ALGORITHMS=["HS256"], JWT_SECRET_KEY=settings.jwt_signing_secret
        )
    manager = JWTManager(app)
    if settings.jwt_private_key and settings.jwt_public_keys:
        _use_key_pair(manager, settings.jwt_private_key, settings.jwt_public_keys)


def _use_key_pair(manager: JWTManager, private_key: str, public_keys: str) -> None:
    keys: dict[str, str] = json.loads(public_keys)

    @manager.encode_key_loader
    def signing_key(_identity: str) -> str:
        return private_key

    @manager.decode_key_loader
    def verifying_key(header: dict[str, Any], _payload: dict[str, Any]) -> str:
        try:
            return keys[header["kid"]]
        except KeyError:
            raise InvalidToken from None

    manager.app_key_id = next(iter(keys))  # type: ignore[attr-defined]  # read back by _headers


def _headers() -> dict[str, str] | None:
    key_id = getattr(current_app.extensions["flask-jwt-extended"], "app_key_id", None)
    return {"kid": key_id} if key_id else None


# -- making tokens -------------------------------------------------------------------


def access_token(user_id: str, session_id: str) -> str:
    """Needs an application context."""
    claims = {"sid": session_id, "use": "access"}
    token: str = create_access_token(user_id, additional_claims=claims, additional_headers=_headers())
    return token


def sign_in_answer(sign_in: SignIn) -> dict[str, object]:
    """The pair of tokens for a session, and whose it is."""
    identity, session_id = str(sign_in.user.id), str(sign_in.session_id)
    access = access_token(identity, session_id)
    refresh = create_refresh_token(
        identity,
        additional_claims={"sid": session_id, "use": "refresh", "rid": str(sign_in.refresh_id)},
        additional_headers=_headers(),
    )
    user = sign_in.user
    return {
        "accessToken": access,
        "refreshToken": refresh,
        "expiresIn": current_parts().settings.jwt_access_ttl_s,
        "user": {"id": identity, "username": user.username, "role": user.role.value, "score": user.score},
    }


def set_cookies(response: Response, answer: dict[str, object]) -> None:
    set_access_cookies(response, str(answer["accessToken"]))
    set_refresh_cookies(response, str(answer["refreshToken"]))


def drop_cookies(response: Response) -> None:
    unset_jwt_cookies(response)


def drop_cookies_on_refusal(body_token: str | None) -> None:
    """Take the browser's cookies away if this request, which relies on them, is refused as unauthorised."""
    if body_token is not None or "Authorization" in request.headers or not request.cookies:
        return

    @after_this_request
    def drop(response: Response) -> Response:
        if response.status_code == HTTPStatus.UNAUTHORIZED or g.get("error_code") == AccountBanned.code:
            drop_cookies(response)
        return response


# -- checking them ---------------------------------------------------------------------


def load_caller() -> None:
    """Find out who calls, before limits are counted; a bad credential is raised later, by who needs to know.

    Leaves ``g.caller`` and ``g.caller_error``; requests without credentials cost nothing.
    """
    g.caller, g.caller_error, g.access_expires_at = None, None, None
    try:
        claims = _access_claims()
        if claims is None:
            return
        g.access_expires_at = claims.expires_at
        g.caller = sessions.identify(current_parts().callers, claims.session_id, claims.user_id)
    except (ScoreboardError, *POSTGRES_UNAVAILABLE) as error:
        g.caller_error = error


def current_caller() -> Caller:
    """The signed-in caller. Raises InvalidToken, TokenExpired, CsrfFailed, AccountBanned."""
    caller = optional_caller()
    if caller is None:
        raise InvalidToken
    return caller


def optional_caller() -> Caller | None:
    """The caller, None without any credential; a bad credential is refused also here."""
    error: Exception | None = g.get("caller_error")
    if error is not None:
        raise error
    caller: Caller | None = g.get("caller")
    return caller


def _access_claims() -> AccessClaims | None:
    if request.endpoint == "live.stream" and (ticket := request.args.get("ticket")) is not None:
        return _ticket_claims(ticket)
    header = request.headers.get("Authorization")
    token = _plain_bearer(header) if header is not None else request.cookies.get(ACCESS_COOKIE)
    if token is not None:
        known = current_parts().verified.get(token)
        if known is not None and (header is not None or _has_csrf_proof(known)):
            return known
    found = _verified("access", is_optional=True)
    if found is None:
        if header is not None:
            raise InvalidToken
        return None
    claims = AccessClaims(UUID(found["sid"]), UUID(found["sub"]), int(found["exp"]), found.get("csrf"))
    if token is not None:
        current_parts().verified.put(token, claims)
    return claims


def _plain_bearer(header: str) -> str | None:
    """The token in the one form that everybody sends; the library judges all others."""
    scheme, _, token = header.partition(" ")
    is_plain = scheme == "Bearer" and not any(each in token for each in " \t,")
    return token if is_plain else None


def _has_csrf_proof(claims: AccessClaims) -> bool:
    """Whether a request with a cookie may be believed without a further look; the library words the refusal."""
    if request.method not in current_app.config["JWT_CSRF_METHODS"]:
        return True
    proof = request.headers.get(CSRF_HEADER, "")
    return claims.csrf is not None and hmac.compare_digest(claims.csrf.encode(), proof.encode())


def _ticket_claims(ticket: str) -> AccessClaims:
    parts = current_parts()
    now = datetime.now(UTC)
    claims: TicketClaims | None = parts.tokens.open_ticket(ticket, parts.settings.stream_ticket_ttl_s, now)
    if claims is None or claims.access_expires_at <= now.timestamp():
        raise InvalidToken
    return AccessClaims(claims.session_id, claims.user_id, claims.access_expires_at, None)


def _verified(use: str, *, is_optional: bool) -> dict[str, Any] | None:
    try:
        if verify_jwt_in_request(optional=is_optional, refresh=use == "refresh") is None:
            return None
        return _checked_claims(get_jwt(), use)
    except ExpiredSignatureError:
        raise TokenExpired from None
    except CSRFError:
        raise CsrfFailed from None
    except (JWTExtendedException, PyJWTError):
        raise InvalidToken from None


def _checked_claims(claims: dict[str, Any], use: str) -> dict[str, Any]:
    """A token that lacks a claim, or was made for another use, is no token of ours."""
    try:
        UUID(claims["sid"])
        UUID(claims["sub"])
        is_ours = claims["use"] == use and claims["type"] == use and bool(claims["jti"]) and int(claims["exp"]) > 0
        if use == "refresh":
            UUID(claims["rid"])
    except (KeyError, ValueError, TypeError, AttributeError):
        raise InvalidToken from None
    if not is_ours:
        raise InvalidToken
    return claims


def refresh_claims(body_token: str | None) -> tuple[UUID, UUID, bool]:
    """Session and refresh id of the refresh token in body, bearer header or cookie, and whether a cookie brought it.

    Raises InvalidToken, TokenExpired, CsrfFailed.
    """
    if body_token is not None:
        claims = _decoded(body_token)
        return UUID(claims["sid"]), UUID(claims["rid"]), False
    found = _verified("refresh", is_optional=False)
    if found is None:
        raise InvalidToken
    return UUID(found["sid"]), UUID(found["rid"]), "Authorization" not in request.headers


def _decoded(token: str) -> dict[str, Any]:
    try:
        return _checked_claims(decode_token(token), "refresh")
    except ExpiredSignatureError:
        raise TokenExpired from None
    except (NoAuthorizationError, JWTExtendedException, PyJWTError):
        raise InvalidToken from None
