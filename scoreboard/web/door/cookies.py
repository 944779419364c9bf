"""Cookies with the tokens, for browsers; what a cookie signs needs a proof that a page of ours has sent it."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Any

from flask import Request, Response, after_this_request
from flask_jwt_extended import set_access_cookies, set_refresh_cookies, unset_jwt_cookies

from config import Settings
from scoreboard.domain.errors import AccountBanned, CsrfFailed, InvalidToken
from scoreboard.web.api import responses
from scoreboard.web.api.answers import Answer
from scoreboard.web.door.bearer import has_bearer
from scoreboard.web.door.call import AnyCall

CSRF_HEADER = "X-CSRF-TOKEN"
_API_PATH, _REFRESH_PATH = "/v1", "/v1/auth"
# Methods that change something; the others need no proof.
_CSRF_METHODS = ("POST", "PUT", "PATCH", "DELETE")


def cookie_settings(settings: Settings) -> dict[str, Any]:
    """Names, paths and flags, as flask-jwt-extended takes them.

    Scripts never see the tokens' cookies; their CSRF companions must be readable at "/". In production a browser takes
    `__Host-` names from this very host over TLS only, so no neighbour under the same domain can slip in cookies of its
    own. That needs the path "/"; the refresh token keeps to its one path, as nobody can slip in its companion.
    """
    host, secure = ("__Host-", "__Secure-") if settings.is_production else ("", "")
    return {
        "JWT_COOKIE_SECURE": settings.is_production,
        "JWT_COOKIE_SAMESITE": "Lax",
        "JWT_COOKIE_CSRF_PROTECT": True,
        "JWT_ACCESS_CSRF_HEADER_NAME": CSRF_HEADER,
        "JWT_ACCESS_COOKIE_NAME": f"{host}access_token_cookie",
        "JWT_ACCESS_COOKIE_PATH": "/" if settings.is_production else _API_PATH,
        "JWT_ACCESS_CSRF_COOKIE_NAME": f"{host}csrf_access_token",
        "JWT_REFRESH_COOKIE_NAME": f"{secure}refresh_token_cookie",
        "JWT_REFRESH_COOKIE_PATH": _REFRESH_PATH,
        "JWT_REFRESH_CSRF_COOKIE_NAME": f"{host}csrf_refresh_token",
    }


def set_cookies(response: Response, answer: responses.SignIn, settings: Settings) -> None:
    """Both for as long as the session may last: an expired access token is what tells a page to refresh."""
    seconds = settings.jwt_refresh_ttl_s
    set_access_cookies(response, answer["accessToken"], max_age=seconds)
    set_refresh_cookies(response, answer["refreshToken"], max_age=seconds)


def drop_cookies(response: Response) -> None:
    unset_jwt_cookies(response)


def drop_cookies_on_refusal(call: AnyCall, body_token: str | None) -> None:
    """Take the browser's cookies away if this request, which relies on them, is refused as unauthorised."""
    if body_token is not None or has_bearer(call.authorization) or not call.http.cookies:
        return

    @after_this_request
    def drop(response: Response) -> Response:
        is_banned = isinstance(response, Answer) and response.error_code == AccountBanned.code
        if is_banned or response.status_code == HTTPStatus.UNAUTHORIZED:
            drop_cookies(response)
        return response


def is_believed(http: Request, csrf: str | None) -> bool:
    """Whether a request with a cookie, whose token has this companion, may be believed without a further look."""
    if http.method not in _CSRF_METHODS:
        return True
    if _is_from_elsewhere(http) or csrf is None:
        return False
    return hmac.compare_digest(csrf.encode(), http.headers.get(CSRF_HEADER, "").encode())


def check_sender(http: Request) -> None:
    """What shows without a look at the token. Raises CsrfFailed."""
    if http.method not in _CSRF_METHODS:
        return
    proof = http.headers.get(CSRF_HEADER, "")
    if _is_from_elsewhere(http) or not proof or not proof.isascii():
        raise CsrfFailed


def check_proof(http: Request, csrf: object) -> None:
    """Whether the proof is the companion of the cookie's token. Raises CsrfFailed; InvalidToken without a companion."""
    if http.method not in _CSRF_METHODS:
        return
    if not isinstance(csrf, str):
        raise InvalidToken
    if not hmac.compare_digest(csrf.encode(), http.headers.get(CSRF_HEADER, "").encode()):
        raise CsrfFailed


def _is_from_elsewhere(http: Request) -> bool:
    """Whether the browser itself says that a page of another site sent this, whatever proof it has."""
    return http.headers.get("Sec-Fetch-Site") == "cross-site"
