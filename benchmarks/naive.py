"""The same flow as one writes it first, to compare with: the same libraries, tables, checks and limits.

Flask with `@jwt_required()` and flask-limiter's decorators on each view, a transaction for each request, a Celery
message for each action (naive_tasks.py). It lacks what the service has besides: request ids, metrics, idempotent
answers, evidence of bad tokens, fallbacks when Redis is down.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from flask import Flask, Response, g, jsonify, request
from flask_jwt_extended import JWTManager, get_jwt_identity, jwt_required
from flask_limiter import Limiter
from psycogreen.gevent import patch_psycopg
from pydantic import ValidationError

from benchmarks.naive_tasks import settle
from config import Settings
from scoreboard.domain.actions import Proof, State, check_reported_points, has_valid_checksum, points_at_most
from scoreboard.domain.errors import (
    ActionAlreadyCompleted,
    ActionTokenExpired,
    InvalidActionToken,
    ScoreboardError,
    TooManyOpenActions,
)
from scoreboard.services.actions.catalogue import Catalogue, load_catalogue
from scoreboard.services.actions.tokens import token_hash
from scoreboard.store.tables import actions, sessions, users
from scoreboard.web.api.requests import ActionCompletion, ActionRequest
from scoreboard.web.door.tokens import AUDIENCE, ISSUER


def create_app() -> Flask:
    """For gunicorn's gevent workers."""
    patch_psycopg()
    settings = Settings.load()
    app = Flask(__name__)
    app.config.update(
        JWT_SECRET_KEY=settings.jwt_signing_secret,
        JWT_DECODE_ISSUER=ISSUER,
        JWT_DECODE_AUDIENCE=AUDIENCE,
        RATELIMIT_STORAGE_URI=settings.redis_url,
        RATELIMIT_HEADERS_ENABLED=True,
        MAX_CONTENT_LENGTH=65_536,
    )
    assert settings.database_url
    engine = sa.create_engine(settings.database_url, pool_size=settings.database_pool_size)
    _check_sessions(JWTManager(app), engine)
    limiter = Limiter(get_jwt_identity, app=app)
    _add_views(app, limiter, Actions(engine, settings), settings)
    app.register_error_handler(ScoreboardError, _refusal)
    app.register_error_handler(ValidationError, _malformed)
    return app


def _check_sessions(manager: JWTManager, engine: sa.Engine) -> None:
    """A token of an ended session, or of a banned player, is worth nothing."""
    query = sa.select(users.c.status, sessions.c.revoked_at, sessions.c.expires_at).join_from(users, sessions)

    @manager.token_in_blocklist_loader
    def is_revoked(_header: dict[str, Any], payload: dict[str, Any]) -> bool:
        with engine.connect() as connection:
            row = connection.execute(query.where(sessions.c.id == UUID(payload["sid"]))).one_or_none()
        g.status = row.status if row else None
        return row is None or row.revoked_at is not None or row.status == "banned"


def _add_views(app: Flask, limiter: Limiter, work: Actions, settings: Settings) -> None:
    @app.get("/health")
    def health() -> Response:
        return jsonify(success=True)

    @app.post("/v1/actions/request")
    @jwt_required()  # type: ignore[untyped-decorator]  # it ships no types
    @limiter.limit(settings.rate_limit_request)
    def request_action() -> Response:
        body = ActionRequest.model_validate(orjson.loads(request.get_data()))
        return jsonify(success=True, data=work.issue(UUID(get_jwt_identity()), body))

    @app.post("/v1/actions/complete")
    @jwt_required()  # type: ignore[untyped-decorator]  # it ships no types
    @limiter.limit(settings.rate_limit_complete)
    @limiter.limit(settings.rate_limit_complete_flagged, exempt_when=lambda: g.status != "flagged")
    def complete_action() -> tuple[Response, int]:
        body = ActionCompletion.model_validate(orjson.loads(request.get_data()))
        work.accept(UUID(get_jwt_identity()), body)
        settle.delay(str(body.action_id))
        status_url = f"/v1/actions/{body.action_id}"
        data = {"actionId": str(body.action_id), "status": "accepted", "statusUrl": status_url}
        return jsonify(success=True, data=data), 202


def _refusal(error: ScoreboardError) -> tuple[Response, int]:
    return jsonify(success=False, error={"code": error.code, "message": error.message, "details": error.details}), 400


def _malformed(error: ValidationError) -> tuple[Response, int]:
    return jsonify(success=False, error={"code": "VALIDATION_FAILED", "message": str(error), "details": {}}), 400


class Actions:
    """Issuing and accepting, a transaction each."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self._engine = engine
        self._catalogue: Catalogue = load_catalogue(settings.catalogue_path)
        self._fernet = Fernet(settings.action_keys[0])
        self._ttl = timedelta(seconds=settings.action_token_ttl_s)
        self._max_open = settings.max_open_actions

    def issue(self, player: UUID, body: ActionRequest) -> dict[str, object]:
        """Raises ValidationFailed, TooManyOpenActions."""
        action_type = self._catalogue.check_request(body.action_type, body.metadata)
        action_id, proof_key = uuid4(), secrets.token_urlsafe(24)
        sealed = orjson.dumps([action_id.hex, player.hex, body.action_type, proof_key])
        token = self._fernet.encrypt(sealed).decode()
        with self._engine.begin() as connection:
            issued_at = self._insert(connection, action_id, player, body, token)
        return {
            "actionId": str(action_id),
            "actionToken": token,
            "proofKey": proof_key,
            "issuedAt": issued_at.isoformat(),
            "expiresAt": (issued_at + self._ttl).isoformat(),
            "maxPoints": points_at_most(action_type, body.metadata),
        }

    def _insert(
        self, connection: sa.Connection, action_id: UUID, player: UUID, body: ActionRequest, token: str
    ) -> datetime:
        """The player's row is locked meanwhile, so that parallel requests can't pass the cap together."""
        connection.execute(sa.select(users.c.id).where(users.c.id == player).with_for_update())
        is_open = sa.and_(actions.c.state == State.ISSUED.value, actions.c.expires_at > sa.func.now())
        count = sa.select(sa.func.count()).where(actions.c.user_id == player, is_open)
        if connection.execute(count).scalar_one() >= self._max_open:
            raise TooManyOpenActions(1)
        inserted = sa.insert(actions).values(
            id=action_id,
            user_id=player,
            action_type=body.action_type,
            metadata=body.metadata,
            token_hash=token_hash(token),
            issued_at=sa.func.now(),
            expires_at=sa.func.now() + self._ttl,
        )
        issued_at: datetime = connection.execute(inserted.returning(actions.c.issued_at)).scalar_one()
        return issued_at

    def accept(self, player: UUID, body: ActionCompletion) -> None:
        """Raises InvalidActionToken, ActionTokenExpired, ActionAlreadyCompleted, ValidationFailed."""
        self._check(player, body)
        hashed = token_hash(body.action_token)
        guard = sa.and_(actions.c.id == body.action_id, actions.c.user_id == player, actions.c.token_hash == hashed)
        is_open = sa.and_(actions.c.state == State.ISSUED.value, actions.c.expires_at > sa.func.now())
        accepted = {
            "state": State.ACCEPTED.value,
            "accepted_at": sa.func.clock_timestamp(),
            "completion_time_ms": body.proof.completion_time,
            "reported_points": body.proof.points,
            "data": body.proof.data,
            "ip": request.remote_addr,
            "user_agent": request.user_agent.string,
        }
        with self._engine.begin() as connection:
            if connection.execute(sa.update(actions).where(guard, is_open).values(**accepted)).rowcount:
                return
            state = connection.execute(sa.select(actions.c.state).where(guard)).scalar_one_or_none()
        if state is None:
            raise InvalidActionToken
        raise ActionTokenExpired if state in (State.ISSUED, State.EXPIRED) else ActionAlreadyCompleted

    def _check(self, player: UUID, body: ActionCompletion) -> None:
        try:
            action_id, owner, code, proof_key = orjson.loads(self._fernet.decrypt(body.action_token))
        except (InvalidToken, ValueError):
            raise InvalidActionToken from None
        proof = Proof(body.proof.completion_time, body.proof.checksum, body.proof.points, body.proof.data)
        if (UUID(action_id), UUID(owner)) != (body.action_id, player):
            raise InvalidActionToken
        if not has_valid_checksum(proof_key, str(body.action_id), proof):
            raise InvalidActionToken
        if action_type := self._catalogue.get(code):
            check_reported_points(action_type, proof.points)
