"""/v1/admin: moderation, the audit log, the board's upkeep. Role admin; each change is audited."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from flask import Blueprint, Response
from pydantic import BaseModel

from scoreboard.domain import errors
from scoreboard.domain.accounts import Status, name_keys
from scoreboard.domain.standings import iso
from scoreboard.live.broker import request_rebuild
from scoreboard.services.account import Account
from scoreboard.services.figures import count_accounts, read_backlog
from scoreboard.services.moderate import Moderation
from scoreboard.services.order_rebuild import order_rebuild
from scoreboard.store import users
from scoreboard.store.audit import AuditEvent
from scoreboard.store.audit_trail import AuditFilter, Place, list_events
from scoreboard.web import answers, schemas
from scoreboard.web.auth import current_caller
from scoreboard.web.cursors import decode_cursor, encode_cursor
from scoreboard.web.idempotency import keyed_request
from scoreboard.web.operation import Access, Operation, answer
from scoreboard.web.origin import request_origin
from scoreboard.web.parts import current_parts

blueprint = Blueprint("admin", __name__, url_prefix="/v1/admin")

# What the changes of an account have in common.
_MEASURE: dict[str, Any] = {
    "access": Access.ADMIN,
    "body": schemas.ReasonBody,
    "answer": answers.AdminUser,
    "errors": [errors.NotFound],
    "takes_idempotency_key": True,
}


@blueprint.get("/users")
@Operation("Search accounts", access=Access.ADMIN, query=schemas.UsersQuery, answer=answers.AdminUsersPage)
def search(query: schemas.UsersQuery) -> Response:
    """Newest first; `q` is part of a name or an e-mail address."""
    cursor = decode_cursor(query.cursor, [str, str])
    question = partial(
        users.search_users,
        texts=name_keys(query.q) if query.q else [],
        status=Status(query.status) if query.status else None,
        before=_place(cursor),
        limit=query.limit + 1,
    )
    found = current_parts().database.read_stale(question)
    page = found[: query.limit]
    more = len(found) > query.limit
    next_cursor = encode_cursor(page[-1].created_at.isoformat(), page[-1].id.hex) if more else None
    return answer({"items": [Account.of(user).as_json() for user in page], "nextCursor": next_cursor})


def _place(cursor: list[int | str] | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        return schemas.in_utc(datetime.fromisoformat(str(cursor[0]))), UUID(str(cursor[1]))
    except ValueError:
        raise errors.ValidationFailed({"cursor": "is not a cursor of this list"}) from None


@blueprint.get("/users/<uuid:user_id>")
@Operation("One account", access=Access.ADMIN, answer=answers.AdminUser, errors=[errors.NotFound])
def show_user(user_id: UUID) -> Response:
    with current_parts().database.read() as connection:
        user = users.get_user(connection, user_id)
    if user is None:
        raise errors.NotFound("There is no such account.")
    return answer(Account.of(user).as_json())


@blueprint.post("/users/<uuid:user_id>/ban")
@Operation("Ban", **_MEASURE)
def ban(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Off the board, signed out, streams ended, all at once."""
    return answer(_moderation(body).ban(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/unban")
@Operation("Unban", **_MEASURE)
def unban(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Back on the board, in the place where the score belongs."""
    return answer(_moderation(body).unban(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/flag")
@Operation("Flag", **_MEASURE)
def flag(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Suspicious from now on: one completion a minute."""
    return answer(_moderation(body).flag(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/clear")
@Operation("Clear", **_MEASURE)
def clear(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Takes a flag back; a ban stays."""
    return answer(_moderation(body).clear(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/adjust")
@Operation("Adjust a score", **{**_MEASURE, "body": schemas.Adjustment})
def adjust(user_id: UUID, body: schemas.Adjustment) -> Response:
    """Adds points, or takes some with a negative amount; a ledger entry says who and why."""
    if body.amount == 0:
        raise errors.ValidationFailed({"amount": "must not be 0"})
    return answer(_moderation(body).adjust(user_id, body.amount, body.reason).as_json())


@blueprint.get("/audit")
@Operation("The audit log", access=Access.ADMIN, query=schemas.AuditQuery, answer=answers.AuditPage)
def list_audit(query: schemas.AuditQuery) -> Response:
    """Newest first; `userId` matches the actor or the target."""
    wanted = AuditFilter(query.event, query.user_id, query.since, query.until)
    place = _audit_place(decode_cursor(query.cursor, [int, int, str, int, int]))
    found = current_parts().database.read_stale(partial(list_events, wanted=wanted, after=place, limit=query.limit + 1))
    page = found[: query.limit]
    next_cursor = encode_cursor(*page[-1][1].as_parts()) if len(found) > query.limit else None
    return answer({"items": [_audit_json(event) for event, _ in page], "nextCursor": next_cursor})


def _audit_place(cursor: list[Any] | None) -> Place | None:
    if cursor is None:
        return None
    try:
        return Place.of_parts(*cursor)
    except ValueError:
        raise errors.ValidationFailed({"cursor": "is not a cursor of this list"}) from None


@blueprint.post("/leaderboard/rebuild")
@Operation(
    "Rebuild the board from Postgres",
    access=Access.ADMIN,
    answer=answers.RebuildStarted,
    status=202,
    takes_idempotency_key=True,
)
def rebuild() -> Response:
    """A worker does it; Postgres serves the board meanwhile."""
    parts = current_parts()
    order_rebuild(
        parts.database,
        lambda: request_rebuild(parts.celery),
        admin=current_caller(),
        origin=request_origin(),
        request=keyed_request(current_caller()),
    )
    return answer({"status": "started"}, 202)


@blueprint.get("/stats")
@Operation("Live figures", access=Access.ADMIN, answer=answers.Stats)
def show_stats() -> Response:
    parts = current_parts()
    backlog = read_backlog(parts.database)
    board = parts.board.read_top()
    return answer(
        {
            "players": board.total_players,
            "accounts": count_accounts(parts.database),
            "streamsHere": parts.hub.streams,
            "unsettled": backlog.unsettled,
            "oldestUnsettledS": round(backlog.oldest_unsettled_s, 3),
            "unannounced": backlog.unannounced,
            "boardVersion": board.version,
        }
    )


def _moderation(body: BaseModel) -> Moderation:
    parts = current_parts()
    caller = current_caller()
    request = keyed_request(caller, body)
    return Moderation(parts.database, parts.standings, parts.events, caller, request_origin(), request)


def _audit_json(event: AuditEvent) -> dict[str, object]:
    return {
        "id": str(event.id) if isinstance(event.id, UUID) else event.id,
        "at": iso(event.at) if event.at else None,
        "event": event.event,
        "actorId": str(event.actor_id) if event.actor_id else None,
        "targetId": str(event.target_id) if event.target_id else None,
        "ip": event.origin.ip,
        "userAgent": event.origin.user_agent,
        "result": event.result,
        "risk": event.risk,
        "details": event.details,
    }
