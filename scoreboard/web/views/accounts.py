"""/v1/auth: accounts and sessions."""

from __future__ import annotations

from flask import Blueprint, Response

from scoreboard.domain import errors
from scoreboard.services.accounts.log_in import log_in
from scoreboard.services.accounts.register import register
from scoreboard.services.accounts.sessions import OpenSession, log_out, refresh_session
from scoreboard.web.api import requests, responses
from scoreboard.web.api.answers import answer
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import BareCall, Call
from scoreboard.web.door.cookies import drop_cookies, drop_cookies_on_refusal, set_cookies

blueprint = Blueprint("accounts", __name__, url_prefix="/v1/auth")


@blueprint.post("/register")
@serves(
    Operation(
        "Create an account",
        access=Access.ANYONE,
        body=requests.Register,
        answer=responses.SignIn,
        status=201,
        limits="register",
        errors=[errors.UsernameTaken, errors.EmailTaken],
    )
)
def create_account(call: Call[requests.Register, None]) -> Response:
    """The player is on the board with 0 points at once, and signed in."""
    components = current_components()
    sign_in = register(
        components.database,
        components.standings,
        components.events,
        components.passwords,
        username=call.body.username,
        email=call.body.email,
        password=call.body.password,
        refresh_ttl_s=components.settings.jwt_refresh_ttl_s,
        origin=call.origin,
    )
    return _signed_in(sign_in, call.body.cookies, 201)


@blueprint.post("/login")
@serves(
    Operation(
        "Sign in",
        access=Access.ANYONE,
        body=requests.Login,
        answer=responses.SignIn,
        limits="login",
        errors=[errors.InvalidCredentials, errors.AccountBanned],
    )
)
def sign_in(call: Call[requests.Login, None]) -> Response:
    """Every attempt counts for its name and address; for the address over all names only those that fail."""
    components = current_components()
    signed_in = log_in(
        components.database,
        components.passwords,
        username=call.body.username,
        password=call.body.password,
        refresh_ttl_s=components.settings.jwt_refresh_ttl_s,
        origin=call.origin,
    )
    return _signed_in(signed_in, call.body.cookies, 200)


@blueprint.post("/refresh")
@serves(
    Operation(
        "Replace a pair of tokens",
        access=Access.ANYONE,
        body=requests.Refresh,
        is_body_optional=True,
        answer=responses.SignIn,
        limits="refresh",
        errors=[errors.InvalidToken, errors.TokenExpired, errors.CsrfFailed, errors.AccountBanned],
    )
)
def refresh(call: Call[requests.Refresh, None]) -> Response:
    """The refresh token comes in the body, as bearer token or as cookie.

    The old one dies; using a dead one revokes the whole family.
    """
    components = current_components()
    # A refused cookie is of no more use; left in place, it would have every stream of that browser refused.
    drop_cookies_on_refusal(call, call.body.refresh_token)
    session_id, refresh_id, is_cookie = components.door.callers.refresh_claims(call.http, call.body.refresh_token)
    renewed = refresh_session(
        components.database,
        components.events,
        session_id=session_id,
        refresh_id=refresh_id,
        ttl_s=components.settings.jwt_refresh_ttl_s,
        origin=call.origin,
    )
    return _signed_in(renewed, is_cookie, 200)


@blueprint.post("/logout")
@serves(Operation("Sign out", access=Access.USER, answer=responses.Nothing))
def sign_out(call: BareCall) -> Response:
    """Revokes this session at once: both tokens die and its streams end."""
    components = current_components()
    log_out(components.database, components.events, caller=call.caller, origin=call.origin)
    response = answer(responses.Nothing())
    if call.http.cookies:
        drop_cookies(response)
    return response


def _signed_in(sign_in: OpenSession, with_cookies: bool, status: int) -> Response:
    components = current_components()
    data = components.access_tokens.sign_in_answer(sign_in)
    response = answer(data, status)
    if with_cookies:
        set_cookies(response, data, components.settings)
    return response
