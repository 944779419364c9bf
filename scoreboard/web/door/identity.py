"""Who calls, as far as it is known before an operation's own check."""

from __future__ import annotations

from dataclasses import dataclass

from scoreboard.domain.errors import InvalidToken
from scoreboard.store.sessions import Caller


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as far as it is known before the operation's own check.

    ``caller`` is None without credentials and with bad ones; then ``error`` says what is wrong with them.
    """

    caller: Caller | None = None
    error: Exception | None = None
    # Unix seconds; None without a token or ticket that is valid.
    access_expires_at: int | None = None
    # From the cache: the write rechecks session, role and status.
    is_cached: bool = False
    # The account of a token that has expired, and was good until then.
    expired_subject: str | None = None

    def check(self) -> None:
        """Raises InvalidToken, TokenExpired, CsrfFailed, AccountBanned, and what a database that is down raises."""
        if self.error is not None:
            raise self.error

    def required(self) -> Caller:
        """The signed-in caller. Raises what ``check`` raises, and InvalidToken where there is none."""
        self.check()
        if self.caller is None:
            raise InvalidToken
        return self.caller


#: A request without credentials.
NOBODY = Identity()
