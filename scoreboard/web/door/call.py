"""One request to an operation, as its view sees it: parsed, checked, and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from flask import Request

from scoreboard.store.audit import Origin
from scoreboard.store.idempotency import KeyedRequest
from scoreboard.store.intake import ServedPlayer
from scoreboard.store.sessions import Caller
from scoreboard.web.door.client_info import address_of, origin_of
from scoreboard.web.door.idempotency import keyed_request
from scoreboard.web.door.identity import Identity
from scoreboard.web.door.preferences import asked_event_id, preferred_wait_s
from scoreboard.web.door.subject import Subject

if TYPE_CHECKING:
    from pydantic import BaseModel

B = TypeVar("B", bound="BaseModel | None", covariant=True)
Q = TypeVar("Q", bound="BaseModel | None", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[B, Q]):
    """What a view works with. ``body`` and ``query`` are the operation's validated models, None where it has none."""

    identity: Identity
    # Those of the path.
    arguments: Mapping[str, UUID]
    body: B
    query: Q
    request_id: str
    # For what only HTTP is about: conditional answers, hosts, a stream's socket.
    http: Request
    # Whom limits count it for; also for what is counted beside the operation itself.
    subject: Subject
    # Whom a trusted game server acts for, where the limits have looked that player up.
    served_player: ServedPlayer | None = None

    @property
    def optional_caller(self) -> Caller | None:
        """The caller, None without any credential; a bad credential is refused also here, as by ``Identity.check``."""
        self.identity.check()
        return self.identity.caller

    @property
    def caller(self) -> Caller:
        """The signed-in caller. Raises what ``Identity.required`` raises."""
        return self.identity.required()

    @property
    def origin(self) -> Origin:
        """The client's address and user agent, for the audit log and the rules."""
        return origin_of(self.http.environ)

    @property
    def client_address(self) -> str:
        """What callers at one address are counted under; one IPv6 network counts as one address."""
        return address_of(self.http.environ)

    @property
    def wait_s(self) -> float | None:
        """Seconds that the caller will wait for an outcome, at most ten; None without ``Prefer: wait``."""
        return preferred_wait_s(self.http.environ.get("HTTP_PREFER"))

    @property
    def keyed_request(self) -> KeyedRequest | None:
        """What makes this change the same as another of this caller; None without Idempotency-Key.

        Raises ValidationFailed.
        """
        key = self.http.environ.get("HTTP_IDEMPOTENCY_KEY")
        if key is None:
            return None
        return keyed_request(self.caller, key, method=self.http.method, path=self.http.path, body=self.body)

    @property
    def last_event_id(self) -> str | None:
        """The id after which the caller wants a stream to go on, None for a new stream."""
        return asked_event_id(self.http)

    @property
    def authorization(self) -> str:
        """The Authorization header, empty without one."""
        header: str = self.http.environ.get("HTTP_AUTHORIZATION", "")
        return header


AnyCall = Call[Any, Any]
#: A call of an operation that takes neither body nor query.
BareCall = Call[None, None]
