"""Access and refresh tokens as they are read: which refusal a bad one gets, before any question to Postgres."""

from __future__ import annotations

import time
from typing import Any

import pytest

from config import Settings
from scoreboard.domain.errors import CsrfFailed, InvalidToken, ScoreboardError, TokenExpired
from scoreboard.web.door.tokens import Tokens
from tests.security.forge import FORGED, Forge

# The service's clock as a test has it; the library looks at the machine's, with a day's leeway.
DAY_S = 86_400
SECRET = "a secret of forty characters, for a test"


@pytest.fixture
def forge() -> Forge:
    return Forge(SECRET, "")


def claims_at(now: int) -> dict[str, Any]:
    return {
        "sub": "01a21e72-5ba2-701b-a76f-9ab68a0dbafa",
        "sid": "01a21e72-5bae-73cc-825f-832b51e27bf5",
        "jti": "1",
        "type": "access",
        "use": "access",
        "iss": "scoreboard",
        "aud": "scoreboard-api",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
    }


def refuse(_claims: object) -> None:
    raise CsrfFailed


def refusal_of(token: str, now: int) -> ScoreboardError:
    """What a cookie without its proof is refused with."""
    with pytest.raises(ScoreboardError) as refused:
        Tokens(Settings.load(jwt_secret=SECRET), lambda: float(now)).read(token, "access", check=refuse)
    return refused.value


@pytest.mark.parametrize("kind", ["exp null", "exp NaN", "exp no number", "exp infinite", "iat infinite"])
def test_a_token_with_a_malformed_time_is_invalid_whatever_its_proof(forge: Forge, kind: str) -> None:
    now = int(time.time())
    assert isinstance(refusal_of(FORGED[kind](forge, claims_at(now)), now), InvalidToken)


def test_a_long_expired_cookie_is_expired_whatever_its_proof(forge: Forge) -> None:
    now = int(time.time())
    refusal = refusal_of(forge.sign(claims_at(now - 2 * DAY_S)), now)
    assert isinstance(refusal, TokenExpired)
    # Only a token that was good until lately counts for its account.
    assert refusal.subject is None


def test_a_lately_expired_cookie_without_its_proof_is_told_of_the_proof(forge: Forge) -> None:
    now = int(time.time())
    assert isinstance(refusal_of(forge.sign(claims_at(now - DAY_S // 2)), now), CsrfFailed)
