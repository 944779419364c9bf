"""The ledger's hash chain: each entry seals the one before it, so a later edit shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from scoreboard.domain.standings import microseconds

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One change of one player's score. ``at`` is when it counts from: accepted_at, or the adjustment's time."""

    user_id: UUID
    seq: int
    action_id: UUID | None
    previous_score: int
    increment: int
    new_score: int
    reason: str | None
    actor_id: UUID | None
    at: datetime
    previous_hash: bytes
    hash: bytes


def entry_hash(
    previous_hash: bytes,
    *,
    user_id: UUID,
    seq: int,
    action_id: UUID | None,
    previous_score: int,
    increment: int,
    new_score: int,
    reason: str | None,
    actor_id: UUID | None,
    at: datetime,
) -> bytes:
    """SHA-256 over the previous hash and every field, length-prefixed so that none can slide into the next.

    A field that is None is told from an empty one by its prefix.
    """
    digest = hashlib.sha256(previous_hash)
    numbers = (seq, previous_score, increment, new_score, microseconds(at))
    for part in (user_id, action_id, *numbers, reason, actor_id):
        encoded = b"" if part is None else b"=" + str(part).encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.digest()


def append(
    *,
    user_id: UUID,
    seq: int,
    previous_score: int,
    previous_hash: bytes,
    increment: int,
    at: datetime,
    action_id: UUID | None = None,
    reason: str | None = None,
    actor_id: UUID | None = None,
) -> LedgerEntry:
    """The entry that follows ``seq``; raises ValueError when the score would fall below zero."""
    new_score = previous_score + increment
    if new_score < 0:
        raise ValueError("a score can't fall below zero")
    sealed = entry_hash(
        previous_hash,
        user_id=user_id,
        seq=seq + 1,
        action_id=action_id,
        previous_score=previous_score,
        increment=increment,
        new_score=new_score,
        reason=reason,
        actor_id=actor_id,
        at=at,
    )
    return LedgerEntry(
        user_id, seq + 1, action_id, previous_score, increment, new_score, reason, actor_id, at, previous_hash, sealed
    )
