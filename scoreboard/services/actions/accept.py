"""Accepting a completed action: the checks of the request path, and one guarded statement."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

import orjson

from scoreboard.domain.actions import Proof, State, check_reported_points, has_valid_checksum
from scoreboard.domain.errors import ActionAlreadyCompleted, ActionTokenExpired, InvalidActionToken
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.intake import Intake, Taken
from scoreboard.services.actions.tokens import TokenBox, token_hash
from scoreboard.store import audit
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database
from scoreboard.store.intake import Acceptance, Issue
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
    intake: Intake,
    *,
    caller: Caller,
    player: UUID,
    completion: Completion,
    origin: Origin,
    following: Issue | None = None,
) -> Taken:
    """Consume the token of a checked completion and accept the action; committed when this returns.

    What is fresh was accepted by this call; anything else was accepted before, with the very same body.
    ``following`` is issued with a fresh one. Raises InvalidActionToken, ActionTokenExpired,
    ActionAlreadyCompleted, and what ``Intake.accept`` raises; none of them uses the token up.
    """
    proof = completion.proof
    digest = completion.digest()
    hashed = token_hash(completion.action_token)
    taken = intake.accept(
        Acceptance(
            action_id=completion.action_id,
            caller=caller,
            user_id=player,
            token_hash=hashed,
            completion_time_ms=proof.completion_time_ms,
            reported_points=proof.points,
            data=proof.data,
            body_digest=digest,
            ip=origin.ip,
            user_agent=origin.short_agent,
            following=following,
        )
    )
    stored = taken.stored
    if taken.is_fresh:
        return taken
    # Not the token that was handed out, even if it opens: base64 has several spellings of the same bytes.
    if stored is None or stored.token_hash != hashed:
        raise InvalidActionToken
    if stored.state in (State.ISSUED, State.EXPIRED):
        raise ActionTokenExpired
    if stored.body_digest != digest:
        raise ActionAlreadyCompleted
    return taken


def check_completion(
    database: Database,
    catalogue: Catalogue,
    tokens: TokenBox,
    *,
    player: UUID,
    completion: Completion,
    origin: Origin,
) -> None:
    """Every check that needs no row. Raises InvalidActionToken, ValidationFailed, ScoreValidationFailed.

    A wrong token or checksum is written to the audit log first.
    """
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
