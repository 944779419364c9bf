"""Who calls: bearer token, cookie, or stream ticket, checked against the living session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from scoreboard.domain.errors import InvalidToken, ScoreboardError, TokenExpired
from scoreboard.services.accounts import sessions
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.sessions import Caller
from scoreboard.web.api.operation import Operation
from scoreboard.web.door.bearer import bearer_token, has_bearer
from scoreboard.web.door.cookies import check_proof, check_sender, cookie_settings, is_believed
from scoreboard.web.door.identity import NOBODY, Identity
from scoreboard.web.door.tokens import Tokens
from scoreboard.web.door.verified_tokens import AccessClaims, VerifiedTokens

if TYPE_CHECKING:
    from flask import Request

    from config import Settings
    from scoreboard.services.accounts.callers import CallerLookup
    from scoreboard.services.actions.tokens import TokenBox

_STREAM = "live.stream"


class Callers:
    """Finds out who sends a request."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        lookup: CallerLookup,
        tokens: Tokens,
        tickets: TokenBox,
    ) -> None:
        names = cookie_settings(settings)
        self._access_cookie: str = names["JWT_ACCESS_COOKIE_NAME"]
        self._refresh_cookie: str = names["JWT_REFRESH_COOKIE_NAME"]
        self._ticket_ttl_s = settings.stream_ticket_ttl_s
        self._clock = clock
        self._lookup = lookup
        self._tokens = tokens
        self._tickets = tickets
        self._verified = VerifiedTokens()

    def identify(self, operation: Operation, http: Request) -> Identity:
        """Who calls; a bad credential is raised later, by the operation that needs one.

        Requests without credentials cost nothing. An operation whose own statement rechecks the caller gets the cached
        one.
        """
        expires_at = None
        try:
            claims = self._access_claims(http)
            if claims is None:
                return NOBODY
            expires_at = claims.expires_at
            if operation.confirms_caller:
                known = self._lookup.recall(claims.session_id)
                if known is not None and known.user_id == claims.user_id:
                    return Identity(known, access_expires_at=expires_at, is_cached=True)
            caller = sessions.identify(self._lookup, claims.session_id, claims.user_id)
            return Identity(caller, access_expires_at=expires_at)
        except (ScoreboardError, *POSTGRES_UNAVAILABLE) as error:
            subject = error.subject if isinstance(error, TokenExpired) else None
            return Identity(error=error, access_expires_at=expires_at, expired_subject=subject)

    def identify_again(self, cached: Caller) -> Caller:
        """Who a caller is now who has only been remembered so far. Raises InvalidToken, AccountBanned."""
        self._lookup.forget(cached.session_id)
        return sessions.identify(self._lookup, cached.session_id, cached.user_id)

    def refresh_claims(self, http: Request, body_token: str | None) -> tuple[UUID, UUID, bool]:
        """Session and refresh id of the refresh token in body, bearer header or cookie; whether a cookie brought it.

        Raises InvalidToken, TokenExpired, CsrfFailed.
        """
        authorization = _authorization(http)
        token = body_token if body_token is not None else bearer_token(authorization)
        if token is not None:
            claims = self._tokens.read(token, "refresh")
        else:
            claims = self._read_cookie(http, http.cookies.get(self._refresh_cookie), "refresh")
        is_cookie = body_token is None and not has_bearer(authorization)
        return UUID(claims["sid"]), UUID(claims["rid"]), is_cookie

    def _access_claims(self, http: Request) -> AccessClaims | None:
        environ = http.environ
        if http.endpoint == _STREAM and (ticket := http.args.get("ticket")) is not None:
            # An empty one is no good one, as its page meant to be somebody.
            return self._ticket_claims(ticket)
        bearer = bearer_token(_authorization(http)) if "HTTP_AUTHORIZATION" in environ else None
        token = bearer or (http.cookies.get(self._access_cookie) if "HTTP_COOKIE" in environ else None)
        if not token:
            return None
        known = self._verified.get(token, self._clock())
        if known is not None and (bearer is not None or is_believed(http, known.csrf)):
            return known
        found = self._tokens.read(token, "access") if bearer else self._read_cookie(http, token, "access")
        claims = AccessClaims(UUID(found["sid"]), UUID(found["sub"]), int(found["exp"]), found.get("csrf"))
        self._verified.put(token, claims)
        return claims

    def _read_cookie(self, http: Request, token: str | None, use: str) -> dict[str, Any]:
        if not token:
            raise InvalidToken
        check_sender(http)
        return self._tokens.read(token, use, check=lambda claims: check_proof(http, claims.get("csrf")))

    def _ticket_claims(self, ticket: str) -> AccessClaims:
        claims = self._tickets.open_ticket(ticket, self._ticket_ttl_s, self._clock())
        if claims is None or self._tokens.is_over(claims.access_expires_at):
            raise InvalidToken
        return AccessClaims(claims.session_id, claims.user_id, claims.access_expires_at, None)


def _authorization(http: Request) -> str:
    header: str = http.environ.get("HTTP_AUTHORIZATION", "")
    return header
