"""Actions from issue to outcome. An accepted row is the outbox: it says what is left to settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.actions import State
from scoreboard.store.tables import actions


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


_COLUMNS = [actions.c[name] for name in Action.__dataclass_fields__]


def _action(row: sa.Row[Any]) -> Action:
    values = row._asdict()
    values["state"] = State(values["state"])
    values["token_hash"] = bytes(values["token_hash"])
    if values["body_digest"] is not None:
        values["body_digest"] = bytes(values["body_digest"])
    return Action(**values)


def get_action(connection: sa.Connection, action_id: UUID) -> Action | None:
    row = connection.execute(sa.select(*_COLUMNS).where(actions.c.id == action_id)).one_or_none()
    return _action(row) if row else None


def get_actions(connection: sa.Connection, action_ids: Sequence[UUID]) -> list[Action]:
    return [_action(row) for row in connection.execute(sa.select(*_COLUMNS).where(actions.c.id.in_(action_ids)))]


def lock_accepted(connection: sa.Connection, action_ids: Sequence[UUID]) -> list[Action]:
    """Lock those that are still to be settled and not in another worker's hands, in the order of acceptance."""
    rows = connection.execute(
        sa.select(*_COLUMNS)
        .where(actions.c.id.in_(action_ids), actions.c.state == State.ACCEPTED.value)
        .order_by(actions.c.accepted_at, actions.c.id)
        .with_for_update(skip_locked=True)
    )
    return [_action(row) for row in rows]


_RECENT = sa.text(
    """
    SELECT user_id, accepted_at FROM actions
    WHERE user_id = ANY(CAST(:user_ids AS uuid[])) AND accepted_at > :since
    ORDER BY user_id, accepted_at
    """
)


def recent_completions(
    connection: sa.Connection, user_ids: Sequence[UUID], *, since: datetime
) -> dict[UUID, list[datetime]]:
    """When each user's actions were accepted since then, oldest first."""
    recent: dict[UUID, list[datetime]] = {}
    for row in connection.execute(_RECENT, {"user_ids": list(user_ids), "since": since}):
        recent.setdefault(row.user_id, []).append(row.accepted_at)
    return recent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What settling decided about one action; the score fields are None unless applied."""

    action_id: UUID
    state: State
    reason: str | None
    risk: float | None
    score_increment: int | None = None
    previous_score: int | None = None
    new_score: int | None = None
    standing_version: int | None = None


_SETTLE = sa.text(
    """
    UPDATE actions SET state = new.state, reason = new.reason, risk = new.risk, settled_at = clock_timestamp(),
           score_increment = new.increment, previous_score = new.previous, new_score = new.score,
           standing_version = new.version
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:risks AS float8[]),
                CAST(:increments AS bigint[]), CAST(:previous AS bigint[]), CAST(:scores AS bigint[]),
                CAST(:versions AS bigint[]))
         AS new (id, state, reason, risk, increment, previous, score, version)
    WHERE actions.id = new.id AND actions.state = 'accepted'
    """
)


def write_outcomes(connection: sa.Connection, outcomes: Sequence[Outcome]) -> int:
    """Settle locked actions in one statement, guarded by their state; returns how many changed."""
    if not outcomes:
        return 0
    return connection.execute(
        _SETTLE,
        {
            "ids": [outcome.action_id for outcome in outcomes],
            "states": [outcome.state.value for outcome in outcomes],
            "reasons": [outcome.reason for outcome in outcomes],
            "risks": [outcome.risk for outcome in outcomes],
            "increments": [outcome.score_increment for outcome in outcomes],
            "previous": [outcome.previous_score for outcome in outcomes],
            "scores": [outcome.new_score for outcome in outcomes],
            "versions": [outcome.standing_version for outcome in outcomes],
        },
    ).rowcount


_ANNOUNCE = sa.text(
    """
    UPDATE actions SET announced_at = clock_timestamp(),
           previous_rank = coalesce(new.previous_rank, actions.previous_rank),
           rank = coalesce(new.rank, actions.rank)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:previous AS bigint[]), CAST(:ranks AS bigint[]))
         AS new (id, previous_rank, rank)
    WHERE actions.id = new.id AND actions.announced_at IS NULL
    """
)


def write_announced(connection: sa.Connection, ranks: Mapping[UUID, tuple[int | None, int | None]]) -> None:
    """Note that these outcomes have been published, with (previous rank, rank) where known."""
    connection.execute(
        _ANNOUNCE,
        {
            "ids": list(ranks),
            "previous": [previous for previous, _ in ranks.values()],
            "ranks": [rank for _, rank in ranks.values()],
        },
    )


def find_unsettled(connection: sa.Connection, *, older_than_s: float, limit: int) -> list[UUID]:
    """Accepted actions that nobody has settled for some seconds, oldest first, skipping those in hand."""
    return list(
        connection.execute(
            sa.select(actions.c.id)
            .where(
                actions.c.state == State.ACCEPTED.value,
                actions.c.accepted_at < sa.func.now() - timedelta(seconds=older_than_s),
            )
            .order_by(actions.c.accepted_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).scalars()
    )


def find_unannounced(connection: sa.Connection, *, older_than_s: float, limit: int) -> list[UUID]:
    """Settled actions whose outcome has perhaps not reached Redis, oldest first."""
    return list(
        connection.execute(
            sa.select(actions.c.id)
            .where(
                actions.c.settled_at < sa.func.now() - timedelta(seconds=older_than_s),
                actions.c.announced_at.is_(None),
            )
            .order_by(actions.c.settled_at)
            .limit(limit)
        ).scalars()
    )


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
        sa.select(actions.c.id)
        .where(actions.c.settled_at.is_not(None), actions.c.announced_at.is_(None))
        .limit(_BACKLOG_COUNT_MAX)
        .subquery()
    )
    count, oldest = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.extract("epoch", sa.func.now() - sa.func.min(open_rows.c.accepted_at)), 0),
        ).select_from(open_rows)
    ).one()
    unannounced = connection.execute(sa.select(sa.func.count()).select_from(unannounced_rows)).scalar_one()
    return Backlog(count, max(0.0, float(oldest)), unannounced)
