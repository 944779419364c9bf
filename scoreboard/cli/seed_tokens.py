"""Access tokens by the hundred thousand, after the pattern of one that the application made."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import jwt
import uuid_utils

from config import Settings
from scoreboard.services.upkeep.seed import Seeded


class AccessTokens:
    """Signs tokens with the headers and claims of the application's own: those of their player, session and moment.

    A third of the cost of asking the application for each. ``settings`` are those that the pattern was made with.
    """

    def __init__(self, pattern: str, settings: Settings) -> None:
        self._headers: dict[str, Any] = jwt.get_unverified_header(pattern)
        self._claims: dict[str, Any] = jwt.decode(pattern, options={"verify_signature": False})
        has_key_pair = self._headers["alg"] == "RS256"
        self._key = str(settings.jwt_private_key) if has_key_pair else settings.jwt_signing_secret
        self._ttl_s = self._claims["exp"] - self._claims["iat"]
        # The pattern has just been dated by the clock that the service judges by.
        self._ahead_s = self._claims["iat"] - time.time()

    def sign(self, players: Iterable[Seeded]) -> Iterator[str]:
        """A token for each, good from now on."""
        now = int(time.time() + self._ahead_s)
        claims = {**self._claims, "iat": now, "nbf": now, "exp": now + self._ttl_s}
        for player in players:
            claims |= {
                "sub": player.user_id,
                "sid": player.session_id,
                "jti": str(uuid_utils.uuid4()),
                "csrf": str(uuid_utils.uuid4()),
            }
            yield jwt.encode(claims, self._key, self._headers["alg"], self._headers)
