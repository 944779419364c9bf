"""Who calls: bearer token, cookie, or stream ticket, checked against the living session."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from datetime import timedelta
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
from scoreboard.services.accounts import sessions
from scoreboard.services.accounts.sessions import SignIn
from scoreboard.services.actions.tokens import TicketClaims
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.web.api import responses
from scoreboard.web.bootstrap import current_components, current_operation
from scoreboard.web.door.bearer import bearer_token, has_bearer
from scoreboard.web.door.call import NOBODY, Identity
from scoreboard.web.door.verified_tokens import AccessClaims

ISSUER = "scoreboard"
AUDIENCE = "scoreboard-api"
# The library looks at this machine's clock, which may be wrong by a zone; what counts is judged by the database's.
_CLOCKS_APART_S = 86_400
# Two processes know the database's clock to some milliseconds, and the times in a token are whole seconds.
_SAME_CLOCK_S = 2
CSRF_HEADER = "X-CSRF-TOKEN"
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
        JWT_DECODE_LEEWAY=_CLOCKS_APART_S,
        JWT_COOKIE_SECURE=settings.is_production,
        JWT_COOKIE_SAMESITE="Lax",
        JWT_COOKIE_CSRF_PROTECT=True,
        JWT_ACCESS_CSRF_HEADER_NAME=CSRF_HEADER,
        **_cookie_places(settings),
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


def _cookie_places(settings: Settings) -> dict[str, str]:
    """Names and paths. Scripts never see the tokens' cookies; their CSRF companions must be readable at "/".

    In production a browser takes `__Host-` names from this very host over TLS only, so no
    neighbour under the same domain can slip in cookies of its own. That needs the path "/";
    the refresh token keeps to its one path, as nobody can slip in its companion.
    """
    host, secure = ("__Host-", "__Secure-") if settings.is_production else ("", "")
    return {
        "JWT_ACCESS_COOKIE_NAME": f"{host}access_token_cookie",
        "JWT_ACCESS_COOKIE_PATH": "/" if settings.is_production else _API_PATH,
        "JWT_ACCESS_CSRF_COOKIE_NAME": f"{host}csrf_access_token",
        "JWT_REFRESH_COOKIE_NAME": f"{secure}refresh_token_cookie",
        "JWT_REFRESH_COOKIE_PATH": _REFRESH_PATH,
        "JWT_REFRESH_CSRF_COOKIE_NAME": f"{host}csrf_refresh_token",
    }


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
    claims = {"sid": session_id, "use": "access", **_times(current_components().settings.jwt_access_ttl_s)}
    token: str = create_access_token(user_id, additional_claims=claims, additional_headers=_headers())
    return token


def _times(ttl_s: int) -> dict[str, int]:
    """The times in a token, by the clock that all processes share instead of the library's."""
    now = int(current_components().clock())
    return {"iat": now, "nbf": now, "exp": now + ttl_s}


def sign_in_answer(sign_in: SignIn) -> responses.SignIn:
    """The pair of tokens for a session, and whose it is."""
    identity, session_id = str(sign_in.user.id), str(sign_in.session_id)
    access = access_token(identity, session_id)
    refresh = create_refresh_token(
        identity,
        additional_claims={
            "sid": session_id,
            "use": "refresh",
            "rid": str(sign_in.refresh_id),
            **_times(current_components().settings.jwt_refresh_ttl_s),
        },
        additional_headers=_headers(),
    )
    user = sign_in.user
    return responses.SignIn(
        accessToken=access,
        refreshToken=refresh,
        expiresIn=current_components().settings.jwt_access_ttl_s,
        user=responses.SignedInUser(id=user.id, username=user.username, role=user.role, score=user.score),
    )


def set_cookies(response: Response, answer: responses.SignIn) -> None:
    """Both for as long as the session may last: an expired access token is what tells a page to refresh."""
    seconds = current_components().settings.jwt_refresh_ttl_s
    set_access_cookies(response, answer["accessToken"], max_age=seconds)
    set_refresh_cookies(response, answer["refreshToken"], max_age=seconds)


def drop_cookies(response: Response) -> None:
    unset_jwt_cookies(response)


def drop_cookies_on_refusal(body_token: str | None) -> None:
    """Take the browser's cookies away if this request, which relies on them, is refused as unauthorised."""
    if body_token is not None or has_bearer(_authorization()) or not request.cookies:
        return

    @after_this_request
    def drop(response: Response) -> Response:
        if response.status_code == HTTPStatus.UNAUTHORIZED or g.get("error_code") == AccountBanned.code:
            drop_cookies(response)
        return response


# -- checking them ---------------------------------------------------------------------


def load_caller() -> None:
    """Find the caller before limits are counted, and leave what was found in ``g.identity``."""
    g.identity = identify()


def identify() -> Identity:
    """Who calls; a bad credential is raised later, by the operation that needs one.

    Requests without credentials cost nothing. An operation whose own statement rechecks the caller gets the cached one.
    """
    expires_at = None
    try:
        claims = _access_claims()
        if claims is None:
            return NOBODY
        expires_at = claims.expires_at
        callers = current_components().callers
        operation = current_operation()
        will_confirm = operation is not None and operation.confirms_caller
        caller = callers.recall(claims.session_id) if will_confirm else None
        if caller is not None and caller.user_id == claims.user_id:
            return Identity(caller, access_expires_at=expires_at, is_cached=True)
        return Identity(sessions.identify(callers, claims.session_id, claims.user_id), access_expires_at=expires_at)
    except (ScoreboardError, *POSTGRES_UNAVAILABLE) as error:
        return Identity(error=error, access_expires_at=expires_at, expired_subject=g.pop("expired_subject", None))


def identify_again(cached: Identity) -> Identity:
    """The identity of a caller who has only been remembered so far. Raises InvalidToken, AccountBanned."""
    assert cached.caller is not None
    callers = current_components().callers
    callers.forget(cached.caller.session_id)
    caller = sessions.identify(callers, cached.caller.session_id, cached.caller.user_id)
    return replace(cached, caller=caller, is_cached=False)


def _access_claims() -> AccessClaims | None:
    if request.endpoint == "live.stream" and (ticket := _stream_ticket()) is not None:
        return _ticket_claims(ticket)
    bearer = bearer_token(_authorization())
    token = bearer or request.cookies.get(_cookie_of("access"))
    if not token:
        return None
    known = current_components().verified.get(token, current_components().clock())
    if known is not None and (bearer is not None or _has_csrf_proof(known)):
        return known
    found = _verified("access")
    claims = AccessClaims(UUID(found["sid"]), UUID(found["sub"]), int(found["exp"]), found.get("csrf"))
    current_components().verified.put(token, claims)
    return claims


def _stream_ticket() -> str | None:
    """The ticket in the address; an empty one is no good one, as its page meant to be somebody."""
    return request.args.get("ticket")


def _authorization() -> str:
    return request.headers.get("Authorization", "")


def _cookie_of(use: str) -> str:
    return str(current_app.config[f"JWT_{use.upper()}_COOKIE_NAME"])


def _has_csrf_proof(claims: AccessClaims) -> bool:
    """Whether a request with a cookie may be believed without a further look; the library words the refusal."""
    if request.method not in current_app.config["JWT_CSRF_METHODS"]:
        return True
    if _is_from_elsewhere():
        return False
    proof = request.headers.get(CSRF_HEADER, "")
    return claims.csrf is not None and hmac.compare_digest(claims.csrf.encode(), proof.encode())


def _check_sender() -> None:
    """What the library does not look at in a call that a cookie signs. Raises CsrfFailed."""
    if request.method not in current_app.config["JWT_CSRF_METHODS"]:
        return
    # Its comparison knows ASCII only, and fails on anything else.
    if _is_from_elsewhere() or not request.headers.get(CSRF_HEADER, "").isascii():
        raise CsrfFailed


def _is_from_elsewhere() -> bool:
    """Whether the browser itself says that a page of another site sent this, whatever proof it has."""
    return request.headers.get("Sec-Fetch-Site") == "cross-site"


def _ticket_claims(ticket: str) -> AccessClaims:
    components = current_components()
    claims: TicketClaims | None = components.tokens.open_ticket(
        ticket, components.settings.stream_ticket_ttl_s, components.clock()
    )
    if claims is None or _is_over(claims.access_expires_at):
        raise InvalidToken
    return AccessClaims(claims.session_id, claims.user_id, claims.access_expires_at, None)


def _verified(use: str) -> dict[str, Any]:
    """The claims of the token in header or cookie. Raises InvalidToken, TokenExpired, CsrfFailed."""
    bearer = bearer_token(_authorization())
    if bearer is not None:
        return _decoded(bearer, use)
    if request.cookies.get(_cookie_of(use)):
        _check_sender()
    try:
        verify_jwt_in_request(refresh=use == "refresh", locations=["cookies"])
        return _checked_claims(get_jwt(), use)
    except ExpiredSignatureError:
        raise TokenExpired from None
    except CSRFError:
        raise CsrfFailed from None
    except (JWTExtendedException, PyJWTError):
        raise InvalidToken from None


def _checked_claims(claims: dict[str, Any], use: str) -> dict[str, Any]:
    """A token that lacks a claim, or was made for another use, is no token of ours.

    Raises InvalidToken, TokenExpired.
    """
    try:
        UUID(claims["sid"])
        UUID(claims["sub"])
        is_ours = claims["use"] == use and claims["type"] == use and bool(claims["jti"])
        expires_at, not_before = int(claims["exp"]), max(int(claims["iat"]), int(claims["nbf"]))
        if use == "refresh":
            UUID(claims["rid"])
    except (KeyError, ValueError, TypeError, AttributeError):
        raise InvalidToken from None
    if not is_ours or not_before > current_components().clock() + _SAME_CLOCK_S:
        raise InvalidToken
    if _is_over(expires_at):
        g.expired_subject = claims["sub"]
        raise TokenExpired
    return claims


def _is_over(expires_at: int) -> bool:
    """Whether this moment, in Unix seconds, is past; by the clock that all processes share."""
    return expires_at <= current_components().clock()


def refresh_claims(body_token: str | None) -> tuple[UUID, UUID, bool]:
    """Session and refresh id of the refresh token in body, bearer header or cookie, and whether a cookie brought it.

    Raises InvalidToken, TokenExpired, CsrfFailed.
    """
    if body_token is not None:
        claims = _decoded(body_token, "refresh")
        return UUID(claims["sid"]), UUID(claims["rid"]), False
    found = _verified("refresh")
    return UUID(found["sid"]), UUID(found["rid"]), not has_bearer(_authorization())


def _decoded(token: str, use: str) -> dict[str, Any]:
    try:
        return _checked_claims(decode_token(token), use)
    except ExpiredSignatureError:
        raise TokenExpired from None
    except (NoAuthorizationError, JWTExtendedException, PyJWTError):
        raise InvalidToken from None
