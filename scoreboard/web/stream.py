"""The live stream: flask-sse's blueprint, fed by the hub instead of a Redis connection per browser.

What replaces flask-sse's own: one reader per process, first bytes at once, ids,
heartbeats, ``retry:``, and a channel that follows from who calls instead of from
what the client asks for. ``publish`` keeps its meaning.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from flask import Response, current_app, g, request
from flask_sse import Message, ServerSentEventsBlueprint

from scoreboard import metrics
from scoreboard.domain import errors
from scoreboard.domain.events import HEARTBEAT, Event
from scoreboard.live.events import BOARD_TARGET, for_everyone, for_user
from scoreboard.live.frames import json_frame, retry_frame
from scoreboard.live.hub import Hub, Subscription
from scoreboard.live.mailbox import Deadline
from scoreboard.services.action_tokens import TicketClaims
from scoreboard.web import schemas
from scoreboard.web.auth import current_caller, optional_caller
from scoreboard.web.limits import client_address
from scoreboard.web.operation import Access, answer, operation
from scoreboard.web.parts import Parts, current_parts
from scoreboard.web.peer import bound_socket

# Browsers come back after one to three seconds, not all at once.
_RETRY_MS = (1_000, 3_000)
# Shorter than the client's socket time-out.
_MESSAGES_BLOCK_MS = 500
_SAFE_FETCH_SITES = ("same-origin", "same-site", "none")


class LiveBlueprint(ServerSentEventsBlueprint):  # type: ignore[misc]  # flask-sse is untyped
    """The stream of the board and, for a signed-in player, of what concerns them."""

    def publish(  # flask-sse's own signature
        self,
        data: Any,
        type: str | None = None,  # noqa: A002
        id: Any = None,  # noqa: A002
        retry: Any = None,
        channel: str = BOARD_TARGET,
    ) -> None:
        """Tell everyone who watches, or one player (``channel="user:<id>"``), who gets it also on coming back.

        ``id`` and ``retry`` are the stream's own to give and must stay None.
        """
        if id is not None or retry is not None:
            raise ValueError("ids and retry are given by the stream itself")
        event = Event(type or "message", data)
        user_id = channel.removeprefix("user:")
        entry = for_everyone(event) if channel == BOARD_TARGET else for_user(UUID(user_id), [event])
        current_parts().events.publish([entry])

    def messages(self, channel: str = BOARD_TARGET) -> Iterator[Message]:
        """What is published to a channel from now on, for scripts and debugging; holds a connection to Redis.

        Browsers don't come this way: the hub feeds them.
        """
        event_log = current_parts().events
        position = event_log.position()
        while True:
            for entry in event_log.read(position, block_ms=_MESSAGES_BLOCK_MS, count=100):
                position = entry.position
                if entry.target == channel:
                    for place, kind, payload in entry.events():
                        yield Message(orjson.loads(payload), type=kind, id=str(place))

    def stream(self, last_event_id: str | None = None) -> Response:
        """The view behind ``GET /v1/leaderboard/stream``; the header's id wins over the query's."""
        parts = current_parts()
        caller = optional_caller()
        _check_origin(parts)
        place = parts.places.claim(caller.user_id if caller else None, client_address())
        try:
            subscription = parts.hub.subscribe(
                caller.user_id if caller else None,
                caller.session_id if caller else None,
                request.headers.get("Last-Event-ID") or last_event_id,
            )
        except BaseException:
            parts.places.release(place)
            raise
        frames = _Frames(parts, subscription, place, _seconds_left(), bound_socket(request.environ, subscription.close))
        response = current_app.response_class(frames, mimetype="text/event-stream")
        # no-transform and X-Accel-Buffering keep proxies from holding events back.
        response.headers["Cache-Control"] = "no-cache, no-transform"
        response.headers["X-Accel-Buffering"] = "no"
        return response


class _Frames:
    """One browser's bytes: what was missed, the board, then whatever comes.

    Runs outside of the request: no database connection, no request context.
    """

    def __init__(
        self,
        parts: Parts,
        subscription: Subscription,
        place: str,
        seconds_left: float | None,
        unwatch: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._subscription = subscription
        self._place = place
        self._seconds_left = seconds_left
        self._unwatch = unwatch
        self._is_open = True
        metrics.STREAMS.inc()

    def __iter__(self) -> Iterator[bytes]:
        hub: Hub = self._parts.hub
        mailbox = self._subscription.mailbox
        heartbeat = Deadline(self._parts.settings.heartbeat_s)
        end = Deadline(self._seconds_left) if self._seconds_left is not None else None
        # The jitter spreads reconnects; it protects nothing.
        yield retry_frame(random.randint(*_RETRY_MS))  # noqa: S311
        while not mailbox.is_closed and (end is None or end.left_s > 0):
            frames = mailbox.take(min(heartbeat.left_s, end.left_s) if end else heartbeat.left_s)
            if mailbox.has_overflowed:
                hub.start_over(self._subscription)
                continue
            if frames:
                yield frames
            if heartbeat.left_s <= 0:
                heartbeat.restart()
                yield json_frame(HEARTBEAT, {"version": hub.version})

    def close(self) -> None:
        """Called by the server when the browser has gone or the stream has ended."""
        if self._is_open:
            self._is_open = False
            self._unwatch()
            self._parts.hub.unsubscribe(self._subscription)
            self._parts.places.release(self._place)
            metrics.STREAMS.dec()


def _check_origin(parts: Parts) -> None:
    """A cookie opens a stream for pages of this site only; others use a ticket. Raises InsufficientPermissions."""
    if request.args.get("ticket") or "Authorization" in request.headers or optional_caller() is None:
        return
    origin = request.headers.get("Origin")
    is_foreign = (
        origin is not None and urlsplit(origin).netloc != request.host and origin not in parts.settings.cors_origins
    )
    if is_foreign or request.headers.get("Sec-Fetch-Site", "none") not in _SAFE_FETCH_SITES:
        raise errors.InsufficientPermissions("A page of another site opens the stream with a ticket.")


def _seconds_left() -> float | None:
    """Until the caller's access ends; None for anonymous callers."""
    expires_at: int | None = g.get("access_expires_at")
    return expires_at - datetime.now(UTC).timestamp() if expires_at and g.get("caller") else None


blueprint = LiveBlueprint("live", __name__, url_prefix="/v1")


@blueprint.get("/leaderboard/stream", endpoint="stream")  # type: ignore[untyped-decorator]  # flask-sse is untyped
@operation(
    "The live stream",
    access=Access.BOARD,
    query=schemas.StreamQuery,
    answer=None,
    limits="stream",
    errors=[errors.TooManyStreams, errors.InsufficientPermissions],
)
def open_stream(query: schemas.StreamQuery) -> Response:
    """Server-sent events, for EventSource; the data of each is a JSON object.

    At once `leaderboard:initial`, then `leaderboard:update` when the top ten change and
    `heartbeat` while nothing does. Signed-in players also get `score:update`, `rank:change` and
    `action:result`. `Last-Event-ID`, or `lastEventId`, resumes: missed private events first,
    then the board; `reset` says that some are gone.
    """
    response: Response = blueprint.stream(query.last_event_id)
    return response


@blueprint.post("/stream/ticket")  # type: ignore[untyped-decorator]  # flask-sse is untyped
@operation("A ticket for the stream", access=Access.USER, answer=schemas.Ticket)
def create_ticket() -> Response:
    """Lets an EventSource on another site open the stream as this user: `?ticket=`."""
    parts = current_parts()
    caller = current_caller()
    claims = TicketClaims(caller.session_id, caller.user_id, int(g.access_expires_at))
    return answer({"ticket": parts.tokens.seal_ticket(claims), "expiresIn": parts.settings.stream_ticket_ttl_s})
