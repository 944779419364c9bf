"""The audit log, append-only: actor, event, target. ``audit_trail`` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from scoreboard.store.tables import audit_log

# Long enough for every real browser; a client can't fill the table with headers.
USER_AGENT_MAX = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """The address and user agent of a request, as far as the trusted proxies vouch for them."""

    ip: str | None = None
    user_agent: str | None = None

    @property
    def short_agent(self) -> str | None:
        """As much of the user agent as is kept."""
        return (self.user_agent or "")[:USER_AGENT_MAX] or None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    event: str
    _: KW_ONLY
    actor_id: UUID | None = None
    target_id: UUID | None = None
    result: str = "success"
    origin: Origin = Origin()
    risk: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    # A row's number; an applied action's own id.
    id: int | UUID | None = None
    at: datetime | None = None


def record(connection: sa.Connection, *events: AuditEvent) -> None:
    """Append events in the caller's transaction."""
    if not events:
        return
    connection.execute(
        sa.insert(audit_log),
        [
            {
                "event": event.event,
                "actor_id": event.actor_id,
                "target_id": event.target_id,
                "ip": event.origin.ip,
                "user_agent": event.origin.short_agent,
                "result": event.result,
                "risk": event.risk,
                "details": dict(event.details),
            }
            for event in events
        ],
    )
