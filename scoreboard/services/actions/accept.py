"""Accepting a completed action: every check of the request path, then one guarded statement."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

import orjson

from scoreboard.domain.actions import Proof, State, check_reported_points, has_valid_checksum
from scoreboard.domain.errors import ActionAlreadyCompleted, ActionTokenExpired, InvalidActionToken
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.intake import Intake
from scoreboard.services.actions.tokens import TokenBox, token_hash
from scoreboard.store import audit
from scoreboard.store.actions import Action
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database
from scoreboard.store.intake import Acceptance
from scoreboard.store.sessions import Caller


@dataclass(frozen=True, slots=True)
class Completion:
    """What the client sends."""

    action_id: UUID
    action_token: str
    proof: Proof

    def digest(self) -> bytes:
        """Tells the very same body from another one."""
        proof = self.proof
        parts = [
            self.action_id.hex,
            self.action_token,
            proof.completion_time_ms,
            proof.checksum,
            proof.points,
            proof.data,
        ]
        return hashlib.sha256(orjson.dumps(parts)).digest()


def accept_action(
    database: Database,
    intake: Intake,
    catalogue: Catalogue,
    tokens: TokenBox,
    *,
    caller: Caller,
    player: UUID,
    completion: Completion,
    origin: Origin,
) -> Action | None:
    """Consume the token and accept the action; committed when this returns.

    Returns None for a fresh acceptance, the stored action when the very same body
    was accepted before. Raises InvalidActionToken, ActionTokenExpired,
    ActionAlreadyCompleted, ValidationFailed, ScoreValidationFailed, and what
    ``Intake.accept`` raises; none of them uses the token up.
    """
    _check_token_and_proof(database, catalogue, tokens, player=player, completion=completion, origin=origin)
    proof = completion.proof
    digest = completion.digest()
    hashed = token_hash(completion.action_token)
    acceptance = Acceptance(
        completion.action_id,
        caller,
        player,
        hashed,
        proof.completion_time_ms,
        proof.points,
        proof.data,
        digest,
        origin.ip,
        origin.short_agent,
    )
    refusal = intake.accept(acceptance)
    if refusal is None:
        return None
    (stored,) = refusal
    # Not the token that was handed out, even if it opens: base64 has several spellings of the same bytes.
    if stored is None or stored.token_hash != hashed:
        raise InvalidActionToken
    if stored.state in (State.ISSUED, State.EXPIRED):
        raise ActionTokenExpired
    if stored.body_digest != digest:
        raise ActionAlreadyCompleted
    return stored


def _check_token_and_proof(
    database: Database, catalogue: Catalogue, tokens: TokenBox, *, player: UUID, completion: Completion, origin: Origin
) -> None:
    try:
        claims = tokens.open_action(completion.action_token)
        if claims.action_id != completion.action_id or claims.user_id != player:
            raise InvalidActionToken
        if not has_valid_checksum(claims.proof_key, str(completion.action_id), completion.proof):
            raise InvalidActionToken
    except InvalidActionToken:
        # Kept as evidence: one is a bug in a game, many are somebody trying keys.
        with database.write() as connection:
            details = {"actionId": str(completion.action_id)}
            refused = AuditEvent(
                "action.token_refused",
                actor_id=player,
                target_id=player,
                result="denied",
                origin=origin,
                risk=0.3,
                details=details,
            )
            audit.record(connection, refused)
        raise
    action_type = catalogue.get(claims.action_type)
    if action_type is not None:
        check_reported_points(action_type, completion.proof.points)
