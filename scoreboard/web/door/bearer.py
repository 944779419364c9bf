"""The Authorization header: schemes without case, and the one that is ours among them."""

from __future__ import annotations

import hmac
import re

from scoreboard.domain.errors import InvalidToken

_SPACES = re.compile(r"[ \t]+")
_SCHEME_AND_TOKEN = 2
# A scheme and, behind a space, what it says; a bare word or a parameter is none.
_NEW_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9._~+-]*(?:[ \t]+[^\s=]|$)")


def bearer_token(header: str) -> str | None:
    """The bearer token in an Authorization header; None without one, also where there are other credentials only.

    Schemes have no case. ``Basic`` and its like belong to a gate in front, and say nothing here.
    Raises InvalidToken for a bearer that is malformed, or two of them.
    """
    # What nearly all send. A known token costs less than a second look at its form.
    if header.startswith("Bearer ") and (plain := header[7:]).isascii() and _is_token(plain):
        return plain
    credentials = (_SPACES.split(each) for each in _credentials(header))
    bearers = [words for words in credentials if words[0].lower() == "bearer"]
    if not bearers:
        return None
    if len(bearers) > 1 or len(bearers[0]) != _SCHEME_AND_TOKEN or "," in bearers[0][1]:
        raise InvalidToken
    return bearers[0][1]


def bears(header: str, secret: str) -> bool:
    """Whether a bearer credential in this header is this secret, which may hold spaces and commas as no token does."""
    header = header.strip(" \t")
    for credential in (header, *_credentials(header)):
        scheme, *given = _SPACES.split(credential, maxsplit=1)
        if scheme.lower() == "bearer" and given and hmac.compare_digest(given[0].encode(), secret.encode()):
            return True
    return False


def has_bearer(header: str) -> bool:
    """Whether a bearer token, good or bad, is in this header: then cookies don't count."""
    try:
        return bearer_token(header) is not None
    except InvalidToken:
        return True


def _is_token(text: str) -> bool:
    return bool(text) and not any(each in text for each in " \t,")


def _credentials(header: str) -> list[str]:
    """Each scheme with what follows it, of one header or of several joined by commas.

    What has no scheme of its own, as the parameters of Digest, belongs to the credentials before it.
    """
    found: list[str] = []
    for part in filter(None, (part.strip(" \t") for part in header.split(","))):
        if not found or _NEW_CREDENTIALS.match(part):
            found.append(part)
        else:
            found[-1] += f",{part}"
    return found
