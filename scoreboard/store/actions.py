"""Actions from issue to outcome. An accepted row is the outbox: it is there until it is settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.actions import SETTLED, State
from scoreboard.store.statements import Statement
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
_nth = sa.func.array_position(settlements.c.action_ids, actions.c.id)
_TOLD = {
    "announced_at": sa.func.coalesce(settlements.c.announced_at, actions.c.announced_at),
    "previous_rank": sa.func.coalesce(settlements.c.previous_ranks[_nth], actions.c.previous_rank),
    "rank": sa.func.coalesce(settlements.c.ranks[_nth], actions.c.rank),
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


class ActionOutcome(NamedTuple):
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


class Reopened(NamedTuple):
    """A failed action that is accepted again, and its player."""

    action_id: UUID
    user_id: UUID


class Backlog(NamedTuple):
    """Unfinished work: actions to settle, the age of the oldest of them, and settled ones to announce."""

    unsettled: int
    oldest_unsettled_s: float
    unannounced: int


_EXPIRE_ISSUED = Statement("expire_issued", tuple)
_REOPEN_FAILED = Statement("reopen_failed", Reopened)
_MEASURE_BACKLOG = Statement("measure_backlog", Backlog)
# Above this an exact count tells an operator nothing more.
_BACKLOG_COUNT_MAX = 100_000


def expire_issued(connection: sa.Connection, *, limit: int) -> int:
    """Mark issued actions whose token's life is over; bounded so that one call stays short."""
    return _EXPIRE_ISSUED.execute(connection, limit=limit)


def reopen_failed(connection: sa.Connection, *, before: datetime, limit: int) -> list[Reopened]:
    """Make actions that failed before this moment accepted ones again, ``limit`` at most."""
    return _REOPEN_FAILED.fetch(connection, before=before, limit=limit)


def measure_backlog(connection: sa.Connection) -> Backlog:
    """The backlog, counted up to a bound."""
    (backlog,) = _MEASURE_BACKLOG.fetch(connection, count_max=_BACKLOG_COUNT_MAX)
    return backlog
