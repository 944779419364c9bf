"""Action tokens and stream tickets: encrypted, authenticated, readable after key rotation.

Fernet (AES-128-CBC with HMAC-SHA256) with the current key first and previous keys
behind it. Each purpose has keys of its own, derived from the configured ones, so
that a ticket can never pass for a token.

The same key seals the same action into the same token: its proof key and the cipher's initialisation vector
are made of what is sealed, under keys of their own. So a token can be handed out again, and is stored nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from scoreboard.domain.errors import InvalidActionToken

# A token holds ids and a key; anything longer isn't one of ours.
TOKEN_MAX_LENGTH = 1_024
_BLOCK_BYTES = 16


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
        self._action_seals = [_ActionSeal(key) for key in keys]
        self._tickets = _keyring(keys, b"stream ticket")

    def seal_action(self, action_id: UUID, user_id: UUID, action_type: str) -> tuple[str, str]:
        """The action's token under the current key, and the proof key inside it.

        The metadata is bound through the action's row, which is found by the token's hash.
        """
        return self._action_seals[0].seal(action_id, user_id, action_type)

    def seal_again(self, action_id: UUID, user_id: UUID, action_type: str, *, hashed: bytes) -> tuple[str, str] | None:
        """The token of this hash and its proof key, whichever key sealed it; None when that key has been dropped."""
        for seal in self._action_seals:
            token, proof_key = seal.seal(action_id, user_id, action_type)
            if token_hash(token) == hashed:
                return token, proof_key
        return None

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


class _ActionSeal:
    """Makes Fernet's tokens (version 0x80 of its specification) without chance: Fernet itself draws the vector."""

    def __init__(self, key: str) -> None:
        own_key = base64.urlsafe_b64decode(_derive(key, b"action token"))
        self._signing_key, self._cipher = own_key[:16], algorithms.AES(own_key[16:])
        self._seed_key = base64.urlsafe_b64decode(_derive(key, b"action token seed"))

    def seal(self, action_id: UUID, user_id: UUID, action_type: str) -> tuple[str, str]:
        bound_to = [action_id.hex, user_id.hex, action_type]
        # One digest for both, which share no byte of it: the client gets the proof key, the vector stands in the token.
        seed = hmac.digest(self._seed_key, orjson.dumps(bound_to), "sha512")
        proof_key, vector = base64.urlsafe_b64encode(seed[:24]).decode(), seed[24 : 24 + _BLOCK_BYTES]
        plain = orjson.dumps([*bound_to, proof_key])
        missing = _BLOCK_BYTES - len(plain) % _BLOCK_BYTES
        encryptor = Cipher(self._cipher, modes.CBC(vector)).encryptor()
        sealed = encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()
        # The time is nobody's business here: the row says when the token ends.
        parts = b"\x80" + bytes(8) + vector + sealed
        return base64.urlsafe_b64encode(parts + hmac.digest(self._signing_key, parts, "sha256")).decode(), proof_key


def _keyring(keys: Sequence[str], purpose: bytes) -> MultiFernet:
    return MultiFernet([Fernet(_derive(key, purpose)) for key in keys])


def _derive(key: str, purpose: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.new(base64.urlsafe_b64decode(key), purpose, hashlib.sha256).digest())
