"""/v1/admin: moderation, the audit log, the board's upkeep. Role admin; each change is audited."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

from flask import Blueprint, Response

from scoreboard.domain import errors
from scoreboard.domain.accounts import Status, username_key
from scoreboard.domain.standings import iso
from scoreboard.live.broker import request_rebuild
from scoreboard.services.figures import count_accounts, read_backlog
from scoreboard.services.moderate import Moderation
from scoreboard.store import audit, users
from scoreboard.store.audit import AuditEvent
from scoreboard.store.users import User
from scoreboard.web import answers, schemas
from scoreboard.web.auth import current_caller
from scoreboard.web.cursors import decode_cursor, encode_cursor
from scoreboard.web.operation import Access, Operation, answer
from scoreboard.web.origin import request_origin
from scoreboard.web.parts import current_parts

blueprint = Blueprint("admin", __name__, url_prefix="/v1/admin")


@blueprint.get("/users")
@Operation("Search accounts", access=Access.ADMIN, query=schemas.UsersQuery, answer=answers.AdminUsersPage)
def search(query: schemas.UsersQuery) -> Response:
    """Newest first; `q` is part of a name or an e-mail address."""
    cursor = decode_cursor(query.cursor, [str, str])
    question = partial(
        users.search_users,
        text=username_key(query.q) if query.q else None,
        status=Status(query.status) if query.status else None,
        before=_place(cursor),
        limit=query.limit + 1,
    )
    found = current_parts().database.read_stale(question)
    page = found[: query.limit]
    more = len(found) > query.limit
    next_cursor = encode_cursor(page[-1].created_at.isoformat(), page[-1].id.hex) if more else None
    return answer({"items": [_user_json(user) for user in page], "nextCursor": next_cursor})


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
    return answer(_user_json(user))


@blueprint.post("/users/<uuid:user_id>/ban")
@Operation("Ban", access=Access.ADMIN, body=schemas.ReasonBody, answer=answers.AdminUser, errors=[errors.NotFound])
def ban(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Off the board, signed out, streams ended, all at once."""
    return answer(_user_json(_moderation().ban(user_id, body.reason)))


@blueprint.post("/users/<uuid:user_id>/unban")
@Operation("Unban", access=Access.ADMIN, body=schemas.ReasonBody, answer=answers.AdminUser, errors=[errors.NotFound])
def unban(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Back on the board, in the place where the score belongs."""
    return answer(_user_json(_moderation().unban(user_id, body.reason)))


@blueprint.post("/users/<uuid:user_id>/flag")
@Operation("Flag", access=Access.ADMIN, body=schemas.ReasonBody, answer=answers.AdminUser, errors=[errors.NotFound])
def flag(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Suspicious from now on: one completion a minute."""
    return answer(_user_json(_moderation().flag(user_id, body.reason)))


@blueprint.post("/users/<uuid:user_id>/clear")
@Operation("Clear", access=Access.ADMIN, body=schemas.ReasonBody, answer=answers.AdminUser, errors=[errors.NotFound])
def clear(user_id: UUID, body: schemas.ReasonBody) -> Response:
    """Takes a flag back; a ban stays."""
    return answer(_user_json(_moderation().clear(user_id, body.reason)))


@blueprint.post("/users/<uuid:user_id>/adjust")
@Operation(
    "Adjust a score", access=Access.ADMIN, body=schemas.Adjustment, answer=answers.AdminUser, errors=[errors.NotFound]
)
def adjust(user_id: UUID, body: schemas.Adjustment) -> Response:
    """Adds points, or takes some with a negative amount; a ledger entry says who and why."""
    if body.amount == 0:
        raise errors.ValidationFailed({"amount": "must not be 0"})
    return answer(_user_json(_moderation().adjust(user_id, body.amount, body.reason)))


@blueprint.get("/audit")
@Operation("The audit log", access=Access.ADMIN, query=schemas.AuditQuery, answer=answers.AuditPage)
def list_audit(query: schemas.AuditQuery) -> Response:
    """Newest first; `userId` matches whoever acted or was acted upon."""
    cursor = decode_cursor(query.cursor, [int])
    question = partial(
        audit.list_events,
        event=query.event,
        user_id=query.user_id,
        since=query.since,
        until=query.until,
        before_id=int(cursor[0]) if cursor else None,
        limit=query.limit + 1,
    )
    found = current_parts().database.read_stale(question)
    page = found[: query.limit]
    next_cursor = encode_cursor(page[-1].id or 0) if len(found) > query.limit else None
    return answer({"items": [_audit_json(event) for event in page], "nextCursor": next_cursor})


@blueprint.post("/leaderboard/rebuild")
@Operation("Rebuild the board from Postgres", access=Access.ADMIN, answer=answers.RebuildStarted, status=202)
def rebuild() -> Response:
    """A worker does it; Postgres serves the board meanwhile."""
    parts = current_parts()
    request_rebuild(parts.celery)
    with parts.database.write() as connection:
        actor = current_caller().user_id
        audit.record(connection, AuditEvent("leaderboard.rebuild_requested", actor, origin=request_origin()))
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


def _moderation() -> Moderation:
    parts = current_parts()
    return Moderation(parts.database, parts.standings, parts.events, current_caller(), request_origin())


def _user_json(user: User) -> dict[str, object]:
    return {
        "id": str(user.id),
        "username": user.username,
        "email": user.email,
        "role": user.role.value,
        "status": user.status.value,
        "isHidden": user.is_hidden,
        "score": user.score,
        "totalActions": user.total_actions,
        "lastActionAt": iso(user.last_action_at) if user.last_action_at else None,
        "createdAt": iso(user.created_at),
    }


def _audit_json(event: AuditEvent) -> dict[str, object]:
    return {
        "id": event.id,
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
