"""Actions from issue to outcome. An accepted row is the outbox: it says what is left to settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.actions import SETTLED, State
from scoreboard.store.tables import actions, settlements


@dataclass(frozen=True, slots=True)
class Action:
    id: UUID
    user_id: UUID
    issued_by: UUID | None
    action_type: str
    metadata: Mapping[str, object]
    token_hash: bytes
    state: State
    issued_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    settled_at: datetime | None
    announced_at: datetime | None
    completion_time_ms: int | None
    reported_points: int | None
    body_digest: bytes | None
    reason: str | None
    risk: float | None
    score_increment: int | None
    previous_score: int | None
    new_score: int | None
    standing_version: int | None
    previous_rank: int | None
    rank: int | None
    reason_details: Mapping[str, object] | None = None
    # What came with the proof, for its owner and for moderators.
    data: str | None = None
    # Whether the ranks above are those that are told; before that they are unknown.
    has_ranks: bool = True

    @property
    def is_told(self) -> bool:
        """Whether there is an outcome, the same for everybody from now on: settled, with its ranks if it has any."""
        return self.state in SETTLED and (self.state is not State.APPLIED or self.has_ranks)


# A settlement's arrays are parallel: an action's ranks stand where its id stands.
_place = sa.func.array_position(settlements.c.action_ids, actions.c.id)
_TOLD = {
    "announced_at": sa.func.coalesce(settlements.c.announced_at, actions.c.announced_at),
    "previous_rank": sa.func.coalesce(settlements.c.previous_ranks[_place], actions.c.previous_rank),
    "rank": sa.func.coalesce(settlements.c.ranks[_place], actions.c.rank),
    # Rows settled before there were settlements have none to ask.
    "has_ranks": sa.func.coalesce(
        sa.or_(settlements.c.ranks.is_not(None), settlements.c.announced_at.is_not(None)), sa.true()
    ),
}
_SELECT = sa.select(
    *(_TOLD[name].label(name) if name in _TOLD else actions.c[name] for name in Action.__dataclass_fields__)
).select_from(actions.outerjoin(settlements, settlements.c.id == actions.c.settlement_id))


def _action(row: sa.Row[Any]) -> Action:
    values = row._asdict()
    values["state"] = State(values["state"])
    values["token_hash"] = bytes(values["token_hash"])
    if values["body_digest"] is not None:
        values["body_digest"] = bytes(values["body_digest"])
    return Action(**values)


def get_action(connection: sa.Connection, action_id: UUID) -> Action | None:
    row = connection.execute(_SELECT.where(actions.c.id == action_id)).one_or_none()
    return _action(row) if row else None


def get_actions(connection: sa.Connection, action_ids: Sequence[UUID]) -> list[Action]:
    return [_action(row) for row in connection.execute(_SELECT.where(actions.c.id.in_(action_ids)))]


class Outcome(NamedTuple):
    """What settling decided about one action; the score fields are None unless applied."""

    action_id: UUID
    state: State
    reason: str | None
    risk: float | None
    score_increment: int | None = None
    previous_score: int | None = None
    new_score: int | None = None
    standing_version: int | None = None
    # Which bound was broken: see domain.rules.
    reason_details: Mapping[str, object] | None = None


def expire_issued(connection: sa.Connection, *, limit: int) -> int:
    """Mark issued actions whose token's life is over; bounded so that one call stays short."""
    overdue = (
        sa.select(actions.c.id)
        .where(actions.c.state == State.ISSUED.value, actions.c.expires_at <= sa.func.now())
        .order_by(actions.c.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(
        sa.update(actions)
        .where(actions.c.id.in_(overdue.scalar_subquery()), actions.c.state == State.ISSUED.value)
        .values(state=State.EXPIRED.value)
    ).rowcount


def reopen_failed(connection: sa.Connection, *, before: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Make actions that failed before this moment accepted ones again; action and player of each, ``limit`` at most."""
    failed = (
        sa.select(actions.c.id)
        .where(actions.c.state == State.FAILED.value, actions.c.settled_at < before)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    reopened = connection.execute(
        sa.update(actions)
        .where(actions.c.id.in_(failed.scalar_subquery()), actions.c.state == State.FAILED.value)
        .values(state=State.ACCEPTED.value, reason=None, reason_details=None, settled_at=None, settlement_id=None)
        .returning(actions.c.id, actions.c.user_id)
    )
    return [(row.id, row.user_id) for row in reopened]


@dataclass(frozen=True, slots=True)
class Backlog:
    unsettled: int
    oldest_unsettled_s: float
    unannounced: int


# Counting stops here: past it an operator needs the size of the fire, not its exact number.
_BACKLOG_COUNT_MAX = 100_000


def measure_backlog(connection: sa.Connection) -> Backlog:
    """How much is accepted but not settled, and how old the oldest is in seconds."""
    open_rows = (
        sa.select(actions.c.accepted_at)
        .where(actions.c.state == State.ACCEPTED.value)
        .order_by(actions.c.accepted_at)
        .limit(_BACKLOG_COUNT_MAX)
        .subquery()
    )
    unannounced_rows = (
        sa.select(sa.func.cardinality(settlements.c.action_ids).label("actions"))
        .where(settlements.c.announced_at.is_(None))
        .limit(_BACKLOG_COUNT_MAX)
        .subquery()
    )
    count, oldest = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.extract("epoch", sa.func.now() - sa.func.min(open_rows.c.accepted_at)), 0),
        ).select_from(open_rows)
    ).one()
    unannounced = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(unannounced_rows.c.actions), 0))
    ).scalar_one()
    return Backlog(count, max(0.0, float(oldest)), unannounced)
