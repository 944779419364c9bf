"""The live stream: flask-sse's blueprint, fed by the hub instead of a Redis connection per browser.

What replaces flask-sse's own: one reader per process, first bytes at once, ids,
heartbeats, ``retry:``, and a channel chosen by the caller's identity instead of
by the client. ``publish`` keeps its meaning.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
from flask import Response, current_app
from flask_sse import Message, ServerSentEventsBlueprint

from scoreboard import metrics
from scoreboard.domain import errors
from scoreboard.live.stream.events import BOARD_TARGET, for_everyone, for_user
from scoreboard.live.stream.frames import Frame, retry_frame
from scoreboard.live.stream.outlet import Outlet, QueueOutlet
from scoreboard.services.actions.tokens import TicketClaims
from scoreboard.web.api import requests, responses
from scoreboard.web.api.answers import Answer, answer
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import Components, current_components
from scoreboard.web.door.bearer import has_bearer
from scoreboard.web.door.call import AnyCall, BareCall, Call
from scoreboard.web.server.giving_away import give_away, may_give_away
from scoreboard.web.server.socket_outlet import SocketOutlet, bound
from scoreboard.wire.events import Event

# Browsers come back after one to three seconds, not all at once.
_RETRY_MS = (1_000, 3_000)
# Shorter than the client's socket time-out.
_MESSAGES_BLOCK_MS = 500
# Open files kept for requests, the database, Redis, logs and metrics.
_FILES_RESERVED = 500
# A full process stays full for a while. Another process may have room.
_FULL_RETRY_S = 5
_SAFE_FETCH_SITES = ("same-origin", "same-site", "none")


class LiveBlueprint(ServerSentEventsBlueprint):  # type: ignore[misc]  # flask-sse is untyped
    """The stream of the board and, for a signed-in player, of their private events."""

    def publish(  # flask-sse's own signature
        self,
        data: Any,
        type: str | None = None,  # noqa: A002
        id: Any = None,  # noqa: A002
        retry: Any = None,
        channel: str = BOARD_TARGET,
    ) -> None:
        """Publish to all streams, or to one player (``channel="user:<id>"``), also after a reconnect.

        ``id`` and ``retry`` must stay None: the stream gives its own.
        """
        if id is not None or retry is not None:
            raise ValueError("ids and retry are given by the stream itself")
        event = Event(type or "message", data)
        user_id = channel.removeprefix("user:")
        entry = for_everyone(event) if channel == BOARD_TARGET else for_user(UUID(user_id), [event])
        current_components().events.publish([entry])

    def messages(self, channel: str = BOARD_TARGET) -> Iterator[Message]:
        """What is published to a channel from now on, for scripts and debugging; holds a connection to Redis.

        The hub feeds browsers; they don't use this.
        """
        event_log = current_components().events
        position = event_log.position()
        while True:
            for entry in event_log.read(position, block_ms=_MESSAGES_BLOCK_MS, count=100):
                position = entry.position
                if entry.target == channel:
                    for place, kind, payload in entry.events():
                        yield Message(orjson.loads(payload), type=kind, id=str(place))

    def stream(self, call: AnyCall) -> Response:
        """The view behind ``GET /v1/leaderboard/stream``."""
        components = current_components()
        _check_origin(components, call)
        if may_give_away(call.http.environ):
            response = _direct(components, call)
        elif call.http.method == "HEAD":
            response = current_app.response_class()
        else:
            response = _generated(components, call)
        response.mimetype = "text/event-stream"
        # no-transform and X-Accel-Buffering keep proxies from holding events back.
        response.headers["Cache-Control"] = "no-cache, no-transform"
        response.headers["X-Accel-Buffering"] = "no"
        return response


def _streams_max() -> int:
    """Streams this process can hold: each is an open file."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FILES_RESERVED, open_files - _FILES_RESERVED)


class _Stream:
    """One browser's open stream: its slot, its subscription, and the release of both."""

    def __init__(self, components: Components, call: AnyCall, outlet: Outlet) -> None:
        """Raises TooManyStreams, ServiceUnavailable, and what reading the board raises."""
        caller = call.optional_caller
        if components.hub.streams >= _streams_max():
            raise errors.ServiceUnavailable(_FULL_RETRY_S)
        self._components = components
        self._slot = components.stream_slots.claim(caller.user_id if caller else None, call.client_address)
        try:
            self.subscription = components.hub.subscribe(
                caller.user_id if caller else None,
                caller.session_id if caller else None,
                call.last_event_id,
                outlet=outlet,
                seconds_left=_seconds_left(components, call),
            )
        except BaseException:
            components.stream_slots.release(self._slot)
            raise
        self._is_open = True
        metrics.STREAMS.inc()

    def start_over(self) -> None:
        self._components.hub.start_over(self.subscription)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._components.hub.unsubscribe(self.subscription)
            self._components.stream_slots.release(self._slot)
            metrics.STREAMS.dec()


class _Frames:
    """The body of a stream on any server: missed events, the board, then new events.

    Runs outside of the request: no database connection, no request context.
    """

    def __init__(self, stream: _Stream, outlet: QueueOutlet) -> None:
        self._stream = stream
        self._outlet = outlet

    def __iter__(self) -> Iterator[bytes]:
        yield _retry_frame()
        while not self._outlet.is_closed:
            frames = self._outlet.take(None)
            if self._outlet.has_overflowed:
                self._stream.start_over()
            elif frames:
                yield frames

    def close(self) -> None:
        """Called by the server when the browser has gone or the stream has ended."""
        self._stream.close()


class _DirectResponse(Answer):
    """Sends headers and first frames, then leaves the connection to the hub."""

    automatically_set_content_length = False
    outlet: SocketOutlet

    def __call__(self, environ: Any, start_response: Any) -> Any:
        _, status, headers = self.get_wsgi_response(environ)
        try:
            write = start_response(status, headers)
            write(_retry_frame() + self.outlet.take_waiting())
            self.outlet.attach(environ["gunicorn.socket"])
        except BaseException:
            self.outlet.close()
            raise
        give_away()
        return ()


def _retry_frame() -> Frame:
    # The jitter spreads reconnects; it protects nothing.
    return retry_frame(random.randint(*_RETRY_MS))  # noqa: S311


def _direct(components: Components, call: AnyCall) -> Response:
    outlet = SocketOutlet()
    stream = _Stream(components, call, outlet)
    outlet.watch(on_overflow=stream.start_over, on_closed=stream.close)
    response = _DirectResponse()
    response.outlet = outlet
    return response


def _generated(components: Components, call: AnyCall) -> Response:
    outlet = QueueOutlet()
    stream = _Stream(components, call, outlet)
    if (connection := call.http.environ.get("gunicorn.socket")) is not None:
        bound(connection)
    return current_app.response_class(_Frames(stream, outlet))


def _check_origin(components: Components, call: AnyCall) -> None:
    """A cookie opens a stream for pages of this site only; others use a ticket. Raises InsufficientPermissions."""
    if call.query.ticket or has_bearer(call.authorization) or call.optional_caller is None:
        return
    origin = call.http.headers.get("Origin")
    # Scheme, host and port only: "null" and anything else is foreign.
    is_foreign = (
        origin is not None
        and origin.partition("://")[2] != call.http.host
        and origin not in components.settings.cors_origins
    )
    if is_foreign or call.http.headers.get("Sec-Fetch-Site", "none") not in _SAFE_FETCH_SITES:
        raise errors.InsufficientPermissions("A page of another site opens the stream with a ticket.")


def _seconds_left(components: Components, call: AnyCall) -> float | None:
    """Until the caller's access ends; None for anonymous callers."""
    expires_at = call.identity.access_expires_at
    return expires_at - components.clock() if expires_at and call.identity.caller else None


blueprint = LiveBlueprint("live", __name__, url_prefix="/v1")


@blueprint.get("/leaderboard/stream", endpoint="stream")  # type: ignore[untyped-decorator]  # flask-sse is untyped
@serves(
    Operation(
        "The live stream",
        access=Access.BOARD,
        query=requests.StreamQuery,
        answer=None,
        headers=["Last-Event-ID"],
        media_type="text/event-stream",
        limits="stream",
        errors=[errors.TooManyStreams, errors.InsufficientPermissions],
    )
)
def open_stream(call: Call[None, requests.StreamQuery]) -> Response:
    """Server-sent events, for EventSource; the data of each is a JSON object.

    At once `leaderboard:initial`, then `leaderboard:update` when the top ten change and
    `heartbeat` while nothing does. Signed-in players also get `score:update`, `rank:change` and
    `action:result`. `Last-Event-ID`, or `lastEventId`, resumes: missed private events first,
    then the board; `reset` says that some are gone.
    """
    response: Response = blueprint.stream(call)
    return response


@blueprint.post("/stream/ticket")  # type: ignore[untyped-decorator]  # flask-sse is untyped
@serves(Operation("A ticket for the stream", access=Access.USER, answer=responses.Ticket))
def create_ticket(call: BareCall) -> Response:
    """Lets an EventSource on another site open the stream as this user: `?ticket=`."""
    components = current_components()
    caller = call.caller
    claims = TicketClaims(caller.session_id, caller.user_id, int(call.identity.access_expires_at or 0))
    ticket = components.tokens.seal_ticket(claims, components.clock())
    return answer(responses.Ticket(ticket=ticket, expiresIn=components.settings.stream_ticket_ttl_s))
