"""The audit log: who did what to whom, append-only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from scoreboard.store.tables import audit_log

# Long enough for every real browser; a client can't fill the table with headers.
USER_AGENT_MAX = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, as far as we believe it."""

    ip: str | None = None
    user_agent: str | None = None

    @property
    def short_agent(self) -> str | None:
        """As much of the user agent as is kept."""
        return (self.user_agent or "")[:USER_AGENT_MAX] or None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    event: str
    actor_id: UUID | None = None
    target_id: UUID | None = None
    result: str = "success"
    origin: Origin = Origin()
    risk: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    id: int | None = None
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


def list_events(
    connection: sa.Connection,
    *,
    event: str | None,
    user_id: UUID | None,
    since: datetime | None,
    until: datetime | None,
    before_id: int | None,
    limit: int,
) -> Sequence[AuditEvent]:
    """Newest first; ``user_id`` matches actor or target, ``until`` is exclusive."""
    query = sa.select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    if event:
        query = query.where(audit_log.c.event == event)
    if user_id:
        # The index by actor leaves out what people did to themselves.
        by_user = sa.and_(audit_log.c.actor_id == user_id, audit_log.c.actor_id.is_distinct_from(audit_log.c.target_id))
        query = query.where(sa.or_(by_user, audit_log.c.target_id == user_id))
    if since:
        query = query.where(audit_log.c.at >= since)
    if until:
        query = query.where(audit_log.c.at < until)
    if before_id is not None:
        query = query.where(audit_log.c.id < before_id)
    return [
        AuditEvent(
            event=row.event,
            actor_id=row.actor_id,
            target_id=row.target_id,
            result=row.result,
            origin=Origin(str(row.ip) if row.ip else None, row.user_agent),
            risk=row.risk,
            details=row.details,
            id=row.id,
            at=row.at,
        )
        for row in connection.execute(query)
    ]
