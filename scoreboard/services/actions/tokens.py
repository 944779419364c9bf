"""Action tokens and stream tickets: encrypted, authenticated, readable after key rotation.

Fernet (AES-128-CBC with HMAC-SHA256) with the current key first and previous keys
behind it. Each purpose has keys of its own, derived from the configured ones, so
that a ticket can never pass for a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from scoreboard.domain.errors import InvalidActionToken

# A token holds ids and a key; anything longer isn't one of ours.
TOKEN_MAX_LENGTH = 1_024


@dataclass(frozen=True, slots=True)
class ActionClaims:
    """What an action token is bound to."""

    action_id: UUID
    user_id: UUID
    action_type: str
    proof_key: str


@dataclass(frozen=True, slots=True)
class TicketClaims:
    """Whom a stream ticket stands for; the stream ends when the access token behind it would."""

    session_id: UUID
    user_id: UUID
    access_expires_at: int


def token_hash(token: str) -> bytes:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode()).digest()


class TokenBox:
    """Seals and opens tokens; ``keys`` are Fernet keys, the current one first."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._actions = _keyring(keys, b"action token")
        self._tickets = _keyring(keys, b"stream ticket")

    def seal_action(self, action_id: UUID, user_id: UUID, action_type: str) -> tuple[str, str]:
        """A new token and the proof key inside it.

        The metadata is bound through the action's row, which is found by the token's hash.
        """
        proof_key = secrets.token_urlsafe(24)
        parts = [action_id.hex, user_id.hex, action_type, proof_key]
        return self._actions.encrypt(orjson.dumps(parts)).decode(), proof_key

    def open_action(self, token: str) -> ActionClaims:
        """Raises InvalidActionToken for anything that this service did not seal with one of its keys."""
        if len(token) > TOKEN_MAX_LENGTH or not token.isascii():
            raise InvalidActionToken
        try:
            action_id, user_id, action_type, proof_key = orjson.loads(self._actions.decrypt(token))
        except (InvalidToken, ValueError):
            raise InvalidActionToken from None
        return ActionClaims(UUID(action_id), UUID(user_id), action_type, proof_key)

    def seal_ticket(self, claims: TicketClaims, now: float) -> str:
        """``now`` in Unix seconds, by the clock that ``open_ticket`` is going to be asked with."""
        parts = [claims.session_id.hex, claims.user_id.hex, claims.access_expires_at]
        return self._tickets.encrypt_at_time(orjson.dumps(parts), int(now)).decode()

    def open_ticket(self, ticket: str, ttl_s: int, now: float) -> TicketClaims | None:
        """None for a forged or stale ticket."""
        if len(ticket) > TOKEN_MAX_LENGTH or not ticket.isascii():
            return None
        try:
            plain = self._tickets.decrypt_at_time(ticket.encode(), ttl_s, int(now))
            session_id, user_id, expires_at = orjson.loads(plain)
        except (InvalidToken, ValueError):
            return None
        return TicketClaims(UUID(session_id), UUID(user_id), expires_at)


def _keyring(keys: Sequence[str], purpose: bytes) -> MultiFernet:
    return MultiFernet([Fernet(_derive(key, purpose)) for key in keys])


def _derive(key: str, purpose: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.new(base64.urlsafe_b64decode(key), purpose, hashlib.sha256).digest())
