"""Reading the audit log: its rows, and the applied actions, about which action and ledger entry say all there is.

A row for each applied action would cost as much as the action itself. So they are shown from where they
stand, merged with the rows by time. Three lists, each in an order of its own that an index has:

- rows by their number;
- applied actions by the time of their settlement and their place in it, of all players or of one game server;
- those of one player by the number of their ledger entry.

Settlements of releases that wrote a row for each applied action are left out: their rows are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.standings import from_microseconds, microseconds
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.tables import audit_log

APPLIED = "action.applied"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_AHEAD = datetime(9999, 1, 1, tzinfo=UTC)
_LAST_ID = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended in each of the lists; what comes later is older."""

    row_id: int = 2**63 - 1
    settled_at: datetime = _FAR_AHEAD
    settlement_id: UUID = _LAST_ID
    nth: int = 2**31 - 1
    seq: int = 2**63 - 1

    def as_parts(self) -> tuple[int, int, str, int, int]:
        """For a cursor."""
        return self.row_id, microseconds(self.settled_at), self.settlement_id.hex, self.nth, self.seq

    @classmethod
    def of_parts(cls, row_id: int, settled_at: int, settlement_id: str, nth: int, seq: int) -> Place:
        """Raises ValueError for parts that are none of ``as_parts``."""
        try:
            return cls(row_id, from_microseconds(settled_at), UUID(settlement_id), nth, seq)
        except OverflowError as error:
            raise ValueError("out of range") from error


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """``user_id`` matches whoever acted or was acted upon, ``until`` is exclusive."""

    event: str | None = None
    user_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


# An event with the place behind it, in its own list.
_Found = tuple[AuditEvent, dict[str, Any]]


def list_events(
    connection: sa.Connection, wanted: AuditFilter, *, after: Place | None, limit: int
) -> list[tuple[AuditEvent, Place]]:
    """Newest first, each with the place behind it."""
    place = after or Place()
    lists: list[Sequence[_Found]] = [_rows(connection, wanted, place, limit)]
    if wanted.event in (None, APPLIED):
        if wanted.user_id is None:
            lists.append(_applied(connection, _OF_ALL, wanted, place, limit))
        else:
            lists.append(_applied(connection, _OF_GAME_SERVER, wanted, place, limit))
            lists.append(_applied(connection, _OF_PLAYER, wanted, place, limit))
    events = []
    for event, behind in _merged(lists):
        place = replace(place, **behind)
        events.append((event, place))
        if len(events) == limit:
            break
    return events


def _merged(lists: Sequence[Sequence[_Found]]) -> Iterator[_Found]:
    """Always the newest of the lists' heads: each list keeps its own order, whatever its times are."""
    left = [iter(each) for each in lists]
    heads = [next(each, None) for each in left]
    while True:
        there = [(head[0].at or _LONG_AGO, nth) for nth, head in enumerate(heads) if head is not None]
        if not there:
            return
        # Of equals the first list's.
        _, nth = max(there, key=lambda each: (each[0], -each[1]))
        head = heads[nth]
        assert head is not None
        yield head
        heads[nth] = next(left[nth], None)


def _rows(connection: sa.Connection, wanted: AuditFilter, place: Place, limit: int) -> list[_Found]:
    query = sa.select(audit_log).where(audit_log.c.id < place.row_id).order_by(audit_log.c.id.desc()).limit(limit)
    if wanted.event:
        query = query.where(audit_log.c.event == wanted.event)
    if wanted.user_id:
        # The index by actor leaves out what people did to themselves.
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


_COLUMNS = """settlements.settled_at, settlements.id AS settlement_id,
           array_position(settlements.action_ids, actions.id) AS nth, actions.id, actions.user_id, actions.issued_by,
           actions.action_type, actions.ip, actions.user_agent, actions.risk, actions.score_increment"""
_IS_WANTED = """settlements.shows_in_audit AND actions.state = 'applied'
          AND settlements.settled_at >= :since AND settlements.settled_at < :until"""
# The first condition is one that the index can look for.
_IS_BEHIND = """settlements.settled_at <= :settled_at
          AND (settlements.settled_at, settlements.id, array_position(settlements.action_ids, actions.id))
              < (:settled_at, :settlement_id, :nth)"""
_OF_ALL = f"""
    SELECT {_COLUMNS}, NULL AS seq
    FROM settlements CROSS JOIN LATERAL unnest(settlements.action_ids) AS own (action_id)
         JOIN actions ON actions.id = own.action_id AND actions.settlement_id = settlements.id
    WHERE {_IS_WANTED} AND {_IS_BEHIND}
    ORDER BY settlements.settled_at DESC, settlements.id DESC, nth DESC LIMIT :limit
    """  # noqa: S608 - made of constants only
_OF_GAME_SERVER = f"""
    SELECT {_COLUMNS}, NULL AS seq
    FROM actions JOIN settlements ON settlements.id = actions.settlement_id
    WHERE actions.issued_by = :user_id AND actions.settled_at <= :settled_at AND {_IS_WANTED} AND {_IS_BEHIND}
    ORDER BY actions.settled_at DESC, settlements.id DESC, nth DESC LIMIT :limit
    """  # noqa: S608
# The ledger of a player is as old as the player: what was entered before there was anything to show, or is too young
# or too old, is left out before action and settlement are looked up. An entry is recorded just before its settlement.
_OF_PLAYER = f"""
    SELECT {_COLUMNS}, entries.seq
    FROM score_history AS entries JOIN actions ON actions.id = entries.action_id
         JOIN settlements ON settlements.id = actions.settlement_id
    WHERE entries.user_id = :user_id AND entries.seq < :seq AND entries.action_id IS NOT NULL AND {_IS_WANTED}
          AND entries.recorded_at < :until AND entries.recorded_at >= greatest(
              :since, (SELECT min(settled_at) FROM settlements WHERE shows_in_audit)
          ) - interval '1 minute'
    ORDER BY entries.seq DESC LIMIT :limit
    """  # noqa: S608


def _applied(connection: sa.Connection, sql: str, wanted: AuditFilter, place: Place, limit: int) -> list[_Found]:
    rows = connection.execute(
        sa.text(sql),
        {
            "since": wanted.since or _LONG_AGO,
            "until": wanted.until or _FAR_AHEAD,
            "user_id": wanted.user_id,
            "settled_at": place.settled_at,
            "settlement_id": place.settlement_id,
            "nth": place.nth,
            "seq": place.seq,
            "limit": limit,
        },
    )
    return [(_applied_event(row), _behind(row)) for row in rows]


def _behind(row: sa.Row[Any]) -> dict[str, Any]:
    if row.seq is not None:
        return {"seq": row.seq}
    return {"settled_at": row.settled_at, "settlement_id": row.settlement_id, "nth": row.nth}


def _applied_event(row: sa.Row[Any]) -> AuditEvent:
    return AuditEvent(
        event=APPLIED,
        actor_id=row.issued_by or row.user_id,
        target_id=row.user_id,
        origin=Origin(str(row.ip) if row.ip else None, row.user_agent),
        risk=row.risk,
        details={
            "actionId": str(row.id),
            "actionType": row.action_type,
            "increment": row.score_increment,
            "reason": None,
        },
        id=row.id,
        at=row.settled_at,
    )
