"""Remembered tokens: bounded, and never longer than they live."""

from __future__ import annotations

import time
from uuid import uuid4

from scoreboard.web.door.verified_tokens import AccessClaims, VerifiedTokens

NOW = time.time()


def claims(expires_in_s: float = 60) -> AccessClaims:
    return AccessClaims(uuid4(), uuid4(), int(NOW + expires_in_s), None)


def test_a_token_is_remembered_by_all_of_its_text() -> None:
    tokens, known = VerifiedTokens(), claims()
    tokens.put("header.payload.signature", known)
    assert tokens.get("header.payload.signature", NOW) is known
    assert tokens.get("header.payload.signaturE", NOW) is None
    assert tokens.get("header.payload.signature=", NOW) is None
    assert tokens.get("", NOW) is None


def test_an_expired_token_is_forgotten() -> None:
    tokens = VerifiedTokens()
    tokens.put("old", claims(expires_in_s=0))
    assert tokens.get("old", NOW) is None
    assert len(tokens) == 0


def test_the_least_recently_used_is_forgotten_first() -> None:
    tokens = VerifiedTokens(remembered_max=3)
    for name in "abc":
        tokens.put(name, claims())
    assert tokens.get("a", NOW) is not None
    tokens.put("d", claims())
    assert len(tokens) == 3
    assert tokens.get("b", NOW) is None
    assert all(tokens.get(name, NOW) for name in "acd")


def test_odd_characters_are_only_unknown() -> None:
    assert VerifiedTokens().get("\udcff\udc80ü", NOW) is None
