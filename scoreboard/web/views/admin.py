"""/v1/admin: moderation, the audit log, the board's upkeep. Role admin; each change is audited."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Blueprint, Response

from scoreboard.domain import errors
from scoreboard.domain.accounts import Status
from scoreboard.live.queue.app import request_rebuild
from scoreboard.services.accounts.account import show_account
from scoreboard.services.boards.order_build import order_rebuild
from scoreboard.services.moderation.decide import Moderation
from scoreboard.services.moderation.read import read_account, read_audit_log, search_accounts
from scoreboard.services.upkeep.health import count_accounts, read_backlog
from scoreboard.store.audit import AuditEvent
from scoreboard.store.audit_trail import AuditFilter, AuditPosition
from scoreboard.web.api import requests, responses
from scoreboard.web.api.answers import answer
from scoreboard.web.api.cursors import decode_cursor, encode_cursor
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import AnyCall, BareCall, Call

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
@serves(Operation("Search accounts", access=Access.ADMIN, query=requests.UsersQuery, answer=responses.AdminUsersPage))
def search(call: Call[None, requests.UsersQuery]) -> Response:
    """Newest first; `q` is part of a name or an e-mail address."""
    cursor = decode_cursor(call.query.cursor, [str, str])
    found = search_accounts(
        current_components().database,
        text=call.query.q,
        status=Status(call.query.status) if call.query.status else None,
        before=_last_seen(cursor),
        limit=call.query.limit + 1,
    )
    page = found[: call.query.limit]
    more = len(found) > call.query.limit
    next_cursor = encode_cursor(page[-1].created_at.isoformat(), page[-1].id.hex) if more else None
    return answer(responses.AdminUsersPage(items=[show_account(user) for user in page], nextCursor=next_cursor))


def _last_seen(cursor: list[int | str] | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        return requests.in_utc(datetime.fromisoformat(str(cursor[0]))), UUID(str(cursor[1]))
    except ValueError:
        raise errors.ValidationFailed({"cursor": "is not a cursor of this list"}) from None


@blueprint.get("/users/<uuid:user_id>")
@serves(Operation("One account", access=Access.ADMIN, answer=responses.AdminUser, errors=[errors.NotFound]))
def show_user(call: BareCall) -> Response:
    return answer(show_account(read_account(current_components().database, call.arguments["user_id"])))


@blueprint.post("/users/<uuid:user_id>/ban")
@serves(Operation("Ban", **_MEASURE))
def ban(call: Call[requests.ReasonBody, None]) -> Response:
    """Off the board, signed out, streams ended, all at once."""
    return answer(_moderation(call).ban(call.arguments["user_id"], call.body.reason))


@blueprint.post("/users/<uuid:user_id>/unban")
@serves(Operation("Unban", **_MEASURE))
def unban(call: Call[requests.ReasonBody, None]) -> Response:
    """Back on the board, in the place where the score belongs."""
    return answer(_moderation(call).unban(call.arguments["user_id"], call.body.reason))


@blueprint.post("/users/<uuid:user_id>/flag")
@serves(Operation("Flag", **_MEASURE))
def flag(call: Call[requests.ReasonBody, None]) -> Response:
    """Suspicious from now on: one completion a minute."""
    return answer(_moderation(call).flag(call.arguments["user_id"], call.body.reason))


@blueprint.post("/users/<uuid:user_id>/clear")
@serves(Operation("Clear", **_MEASURE))
def clear(call: Call[requests.ReasonBody, None]) -> Response:
    """Takes a flag back; a ban stays."""
    return answer(_moderation(call).clear(call.arguments["user_id"], call.body.reason))


@blueprint.post("/users/<uuid:user_id>/adjust")
@serves(Operation("Adjust a score", **{**_MEASURE, "body": requests.Adjustment}))
def adjust(call: Call[requests.Adjustment, None]) -> Response:
    """Adds points, or takes some with a negative amount; a ledger entry says who and why."""
    if call.body.amount == 0:
        raise errors.ValidationFailed({"amount": "must not be 0"})
    return answer(_moderation(call).adjust(call.arguments["user_id"], call.body.amount, call.body.reason))


@blueprint.get("/audit")
@serves(Operation("The audit log", access=Access.ADMIN, query=requests.AuditQuery, answer=responses.AuditPage))
def list_audit(call: Call[None, requests.AuditQuery]) -> Response:
    """Newest first; `userId` matches the actor or the target."""
    wanted = AuditFilter(
        event=call.query.event, user_id=call.query.user_id, since=call.query.since, until=call.query.until
    )
    after = _audit_position(decode_cursor(call.query.cursor, [int, int, str, int, int]))
    found = read_audit_log(current_components().database, wanted, after=after, limit=call.query.limit + 1)
    page = found[: call.query.limit]
    next_cursor = encode_cursor(*page[-1].position.as_parts()) if len(found) > call.query.limit else None
    items = [_audit_item(listed.event) for listed in page]
    return answer(responses.AuditPage(items=items, nextCursor=next_cursor))


def _audit_position(cursor: list[Any] | None) -> AuditPosition | None:
    if cursor is None:
        return None
    try:
        return AuditPosition.of_parts(*cursor)
    except ValueError:
        raise errors.ValidationFailed({"cursor": "is not a cursor of this list"}) from None


@blueprint.post("/leaderboard/rebuild")
@serves(
    Operation(
        "Rebuild the board from Postgres",
        access=Access.ADMIN,
        answer=responses.RebuildStarted,
        status=202,
        takes_idempotency_key=True,
    )
)
def rebuild(call: BareCall) -> Response:
    """A worker does it; Postgres serves the board meanwhile."""
    components = current_components()
    order_rebuild(
        components.database,
        lambda: request_rebuild(components.celery),
        admin=call.caller,
        origin=call.origin,
        request=call.keyed_request,
    )
    return answer(responses.RebuildStarted(status="started"), 202)


@blueprint.get("/stats")
@serves(Operation("Live figures", access=Access.ADMIN, answer=responses.Stats))
def show_stats(call: BareCall) -> Response:
    components = current_components()
    backlog = read_backlog(components.database)
    board = components.board.read_top()
    return answer(
        responses.Stats(
            players=board.total_players,
            accounts=count_accounts(components.database),
            streamsHere=components.hub.streams,
            unsettled=backlog.unsettled,
            oldestUnsettledS=round(backlog.oldest_unsettled_s, 3),
            unannounced=backlog.unannounced,
            boardVersion=board.version,
        )
    )


def _moderation(call: AnyCall) -> Moderation:
    components = current_components()
    return Moderation(
        database=components.database,
        standings=components.standings,
        events=components.events,
        admin=call.caller,
        origin=call.origin,
        request=call.keyed_request,
    )


def _audit_item(event: AuditEvent) -> responses.AuditItem:
    # Only an event that is yet to be recorded has neither.
    assert event.id is not None
    assert event.at is not None
    return responses.AuditItem(
        id=event.id,
        at=event.at,
        event=event.event,
        actorId=event.actor_id,
        targetId=event.target_id,
        ip=event.origin.ip,
        userAgent=event.origin.user_agent,
        result=event.result,
        risk=event.risk,
        details=event.details,
    )
