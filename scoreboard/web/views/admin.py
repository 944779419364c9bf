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
from scoreboard.live.queue.app import request_rebuild
from scoreboard.services.accounts.account import Account
from scoreboard.services.boards.order_build import order_rebuild
from scoreboard.services.moderation.decide import Moderation
from scoreboard.services.upkeep.health import count_accounts, read_backlog
from scoreboard.store import users
from scoreboard.store.audit import AuditEvent
from scoreboard.store.audit_trail import AuditFilter, Place, list_events
from scoreboard.web.api import requests, responses
from scoreboard.web.api.cursors import decode_cursor, encode_cursor
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.callers import current_caller
from scoreboard.web.door.client_info import request_origin
from scoreboard.web.door.idempotency import keyed_request
from scoreboard.web.door.operation import Access, Operation, answer

blueprint = Blueprint("admin", __name__, url_prefix="/v1/admin")

# What the changes of an account have in common.
_MEASURE: dict[str, Any] = {
    "access": Access.ADMIN,
    "body": requests.ReasonBody,
    "answer": responses.AdminUser,
    "errors": [errors.NotFound],
    "takes_idempotency_key": True,
}


@blueprint.get("/users")
@Operation("Search accounts", access=Access.ADMIN, query=requests.UsersQuery, answer=responses.AdminUsersPage)
def search(query: requests.UsersQuery) -> Response:
    """Newest first; `q` is part of a name or an e-mail address."""
    cursor = decode_cursor(query.cursor, [str, str])
    question = partial(
        users.search_users,
        texts=name_keys(query.q) if query.q else [],
        status=Status(query.status) if query.status else None,
        before=_place(cursor),
        limit=query.limit + 1,
    )
    found = current_components().database.read_stale(question)
    page = found[: query.limit]
    more = len(found) > query.limit
    next_cursor = encode_cursor(page[-1].created_at.isoformat(), page[-1].id.hex) if more else None
    return answer({"items": [Account.of(user).as_json() for user in page], "nextCursor": next_cursor})


def _place(cursor: list[int | str] | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        return requests.in_utc(datetime.fromisoformat(str(cursor[0]))), UUID(str(cursor[1]))
    except ValueError:
        raise errors.ValidationFailed({"cursor": "is not a cursor of this list"}) from None


@blueprint.get("/users/<uuid:user_id>")
@Operation("One account", access=Access.ADMIN, answer=responses.AdminUser, errors=[errors.NotFound])
def show_user(user_id: UUID) -> Response:
    with current_components().database.read() as connection:
        user = users.get_user(connection, user_id)
    if user is None:
        raise errors.NotFound("There is no such account.")
    return answer(Account.of(user).as_json())


@blueprint.post("/users/<uuid:user_id>/ban")
@Operation("Ban", **_MEASURE)
def ban(user_id: UUID, body: requests.ReasonBody) -> Response:
    """Off the board, signed out, streams ended, all at once."""
    return answer(_moderation(body).ban(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/unban")
@Operation("Unban", **_MEASURE)
def unban(user_id: UUID, body: requests.ReasonBody) -> Response:
    """Back on the board, in the place where the score belongs."""
    return answer(_moderation(body).unban(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/flag")
@Operation("Flag", **_MEASURE)
def flag(user_id: UUID, body: requests.ReasonBody) -> Response:
    """Suspicious from now on: one completion a minute."""
    return answer(_moderation(body).flag(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/clear")
@Operation("Clear", **_MEASURE)
def clear(user_id: UUID, body: requests.ReasonBody) -> Response:
    """Takes a flag back; a ban stays."""
    return answer(_moderation(body).clear(user_id, body.reason).as_json())


@blueprint.post("/users/<uuid:user_id>/adjust")
@Operation("Adjust a score", **{**_MEASURE, "body": requests.Adjustment})
def adjust(user_id: UUID, body: requests.Adjustment) -> Response:
    """Adds points, or takes some with a negative amount; a ledger entry says who and why."""
    if body.amount == 0:
        raise errors.ValidationFailed({"amount": "must not be 0"})
    return answer(_moderation(body).adjust(user_id, body.amount, body.reason).as_json())


@blueprint.get("/audit")
@Operation("The audit log", access=Access.ADMIN, query=requests.AuditQuery, answer=responses.AuditPage)
def list_audit(query: requests.AuditQuery) -> Response:
    """Newest first; `userId` matches the actor or the target."""
    wanted = AuditFilter(query.event, query.user_id, query.since, query.until)
    place = _audit_place(decode_cursor(query.cursor, [int, int, str, int, int]))
    found = current_components().database.read_stale(
        partial(list_events, wanted=wanted, after=place, limit=query.limit + 1)
    )
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
    answer=responses.RebuildStarted,
    status=202,
    takes_idempotency_key=True,
)
def rebuild() -> Response:
    """A worker does it; Postgres serves the board meanwhile."""
    components = current_components()
    order_rebuild(
        components.database,
        lambda: request_rebuild(components.celery),
        admin=current_caller(),
        origin=request_origin(),
        request=keyed_request(current_caller()),
    )
    return answer({"status": "started"}, 202)


@blueprint.get("/stats")
@Operation("Live figures", access=Access.ADMIN, answer=responses.Stats)
def show_stats() -> Response:
    components = current_components()
    backlog = read_backlog(components.database)
    board = components.board.read_top()
    return answer(
        {
            "players": board.total_players,
            "accounts": count_accounts(components.database),
            "streamsHere": components.hub.streams,
            "unsettled": backlog.unsettled,
            "oldestUnsettledS": round(backlog.oldest_unsettled_s, 3),
            "unannounced": backlog.unannounced,
            "boardVersion": board.version,
        }
    )


def _moderation(body: BaseModel) -> Moderation:
    components = current_components()
    caller = current_caller()
    request = keyed_request(caller, body)
    return Moderation(components.database, components.standings, components.events, caller, request_origin(), request)


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
