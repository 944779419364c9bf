"""Reads the audit log: its rows, merged by time with the applied actions.

An applied action has no row: its action and its ledger entry hold the same data, and a third row would cost as
much as the action itself. Three lists are merged, each in an order of its own that an index has:

- rows by their number;
- applied actions by the time of their settlement and their index in it, of all players or of one game server;
- those of one player by the number of their ledger entry.

Settlements of releases that wrote a row for each applied action are left out: their rows are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.standings import from_microseconds, microseconds
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.statements import Statement
from scoreboard.store.tables import audit_log

APPLIED = "action.applied"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_AHEAD = datetime(9999, 1, 1, tzinfo=UTC)
_LAST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class AuditPosition:
    """The end of a page in each of the lists; the next page is older."""

    row_id: int = 2**63 - 1
    settled_at: datetime = _FAR_AHEAD
    settlement_id: UUID = _LAST_ID
    nth: int = 2**31 - 1
    seq: int = 2**63 - 1

    def as_parts(self) -> tuple[int, int, str, int, int]:
        """For a cursor."""
        return self.row_id, microseconds(self.settled_at), self.settlement_id.hex, self.nth, self.seq

    @classmethod
    def of_parts(cls, row_id: int, settled_at: int, settlement_id: str, nth: int, seq: int) -> AuditPosition:
        """Raises ValueError for parts that ``as_parts`` can't have made."""
        try:
            return cls(row_id, from_microseconds(settled_at), UUID(settlement_id), nth, seq)
        except OverflowError as error:
            raise ValueError("out of range") from error


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """``user_id`` matches actor or target, ``until`` is exclusive."""

    event: str | None = None
    user_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


class ListedEvent(NamedTuple):
    """An event, and the position behind it."""

    event: AuditEvent
    position: AuditPosition


# An event, and the fields of the position behind it in its own list.
_Found = tuple[AuditEvent, dict[str, Any]]


def list_events(
    connection: sa.Connection, wanted: AuditFilter, *, after: AuditPosition | None, limit: int
) -> list[ListedEvent]:
    """Newest first."""
    position = after or AuditPosition()
    lists: list[Sequence[_Found]] = [_rows(connection, wanted, position, limit)]
    if wanted.event in (None, APPLIED):
        lists += [
            [(action.event, action.behind) for action in applied]
            for applied in _applied(connection, wanted, position, limit)
        ]
    events = []
    for event, behind in _merged(lists):
        position = replace(position, **behind)
        events.append(ListedEvent(event, position))
        if len(events) == limit:
            break
    return events


def _merged(lists: Sequence[Sequence[_Found]]) -> Iterator[_Found]:
    """Always the newest of the lists' heads; each list keeps its own order, even where its times don't."""
    left = [iter(found) for found in lists]
    heads = [next(found, None) for found in left]
    while True:
        there = [(head[0].at or _LONG_AGO, nth) for nth, head in enumerate(heads) if head is not None]
        if not there:
            return
        # Of equals the first list's.
        _, nth = max(there, key=lambda head: (head[0], -head[1]))
        head = heads[nth]
        assert head is not None
        yield head
        heads[nth] = next(left[nth], None)


def _rows(connection: sa.Connection, wanted: AuditFilter, position: AuditPosition, limit: int) -> list[_Found]:
    query = sa.select(audit_log).where(audit_log.c.id < position.row_id).order_by(audit_log.c.id.desc()).limit(limit)
    if wanted.event:
        query = query.where(audit_log.c.event == wanted.event)
    if wanted.user_id:
        # The index by actor leaves out events whose actor is their target.
        is_other = audit_log.c.actor_id.is_distinct_from(audit_log.c.target_id)
        by_user = sa.and_(audit_log.c.actor_id == wanted.user_id, is_other)
        query = query.where(sa.or_(by_user, audit_log.c.target_id == wanted.user_id))
    if wanted.since:
        query = query.where(audit_log.c.at >= wanted.since)
    if wanted.until:
        query = query.where(audit_log.c.at < wanted.until)
    return [(_row_event(row), {"row_id": row.id}) for row in connection.execute(query)]


def _row_event(row: sa.Row[Any]) -> AuditEvent:
    return AuditEvent(
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


class AppliedAction(NamedTuple):
    """An applied action, with its position in each list that may show it."""

    settled_at: datetime
    settlement_id: UUID
    nth: int
    id: UUID
    user_id: UUID
    issued_by: UUID | None
    action_type: str
    ip: str | None
    user_agent: str | None
    risk: float | None
    score_increment: int
    # The number of its ledger entry, in the list of one player.
    seq: int | None

    @property
    def behind(self) -> dict[str, Any]:
        """The fields of the position behind it."""
        if self.seq is not None:
            return {"seq": self.seq}
        return {"settled_at": self.settled_at, "settlement_id": self.settlement_id, "nth": self.nth}

    @property
    def event(self) -> AuditEvent:
        details = {
            "actionId": str(self.id),
            "actionType": self.action_type,
            "increment": self.score_increment,
            "reason": None,
        }
        return AuditEvent(
            event=APPLIED,
            actor_id=self.issued_by or self.user_id,
            target_id=self.user_id,
            origin=Origin(self.ip, self.user_agent),
            risk=self.risk,
            details=details,
            id=self.id,
            at=self.settled_at,
        )


_LIST_ALL = Statement("list_applied", AppliedAction)
_LIST_BY_GAME_SERVER = Statement("list_applied_by_game_server", AppliedAction)
_LIST_OF_PLAYER = Statement("list_applied_of_player", AppliedAction)


def _applied(
    connection: sa.Connection, wanted: AuditFilter, position: AuditPosition, limit: int
) -> Iterator[Sequence[AppliedAction]]:
    """The lists that hold the wanted ones."""
    page: dict[str, object] = {
        "since": wanted.since or _LONG_AGO,
        "until": wanted.until or _FAR_AHEAD,
        "limit": limit,
    }
    settlement = {"settled_at": position.settled_at, "settlement_id": position.settlement_id, "nth": position.nth}
    if wanted.user_id is None:
        yield _LIST_ALL.fetch(connection, **page, **settlement)
    else:
        yield _LIST_BY_GAME_SERVER.fetch(connection, user_id=wanted.user_id, **page, **settlement)
        yield _LIST_OF_PLAYER.fetch(connection, user_id=wanted.user_id, seq=position.seq, **page)
