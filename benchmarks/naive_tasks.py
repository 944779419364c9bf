"""The naive variant's worker: a task and a transaction for each action."""

from __future__ import annotations

from functools import cache
from typing import Any
from uuid import UUID

import orjson
import redis
import sqlalchemy as sa
from celery import Celery

from config import Settings
from scoreboard.domain import ledger
from scoreboard.domain.actions import ActionType, State, points_for, time_at
from scoreboard.domain.ledger import LedgerEntry
from scoreboard.domain.rules import BURST_WINDOW, CompletedAction, Consequence, History, Verdict, judge
from scoreboard.services.actions.catalogue import Catalogue, load_catalogue
from scoreboard.store.signals import SignalRow, record
from scoreboard.store.tables import actions, audit_log, score_history, users

BOARD, CHANNEL = "naive:board", "naive:events"

_settings = Settings.load()
app = Celery("naive", broker=_settings.broker_url)
app.conf.task_ignore_result = True


@cache
def _parts() -> tuple[sa.Engine, redis.Redis, Catalogue]:
    """Made after fork, on first use."""
    assert _settings.database_url and _settings.redis_url
    engine = sa.create_engine(_settings.database_url)
    return engine, redis.Redis.from_url(_settings.redis_url), load_catalogue(_settings.catalogue_path)


@app.task
def settle(action_id: str) -> None:
    """Judge and score one action, then tell of it."""
    engine, redis_client, catalogue = _parts()
    with engine.begin() as connection:
        outcome = _settle(connection, catalogue, UUID(action_id))
    if outcome is None:
        return
    pipeline = redis_client.pipeline(transaction=False)
    if outcome["score"] is not None:
        pipeline.zadd(BOARD, {outcome["userId"]: outcome["score"]})
    pipeline.zrevrank(BOARD, outcome["userId"])
    pipeline.publish(CHANNEL, orjson.dumps(outcome))
    pipeline.execute()


def _settle(connection: sa.Connection, catalogue: Catalogue, action_id: UUID) -> dict[str, Any] | None:
    waiting = sa.select(actions).where(actions.c.id == action_id, actions.c.state == State.ACCEPTED.value)
    action = connection.execute(waiting.with_for_update()).one_or_none()
    if action is None:
        return None
    user = connection.execute(sa.select(users).where(users.c.id == action.user_id).with_for_update()).one()
    verdict = _judge(connection, catalogue, action)
    record(connection, [SignalRow(action.id, user.id, signal) for signal in verdict.signals])
    entry = None
    if verdict.consequence is Consequence.HOLD:
        state = State.HELD
    elif verdict.consequence is Consequence.REJECT:
        state = State.REJECTED
    else:
        state = State.APPLIED
        action_type = catalogue.types[action.action_type]
        elapsed_ms = _completion(action_type, action).elapsed_ms
        increment = points_for(action_type, action.metadata, action.reported_points, elapsed_ms)
        entry = _apply(connection, action, user, increment)
    _write_outcome(connection, action, state, verdict, entry)
    return {"userId": str(user.id), "actionId": str(action.id), "status": state, "score": entry and entry.new_score}


def _judge(connection: sa.Connection, catalogue: Catalogue, action: sa.Row[Any]) -> Verdict:
    since = action.accepted_at - BURST_WINDOW
    recent = sa.select(actions.c.accepted_at).where(actions.c.user_id == action.user_id, actions.c.accepted_at > since)
    history = History(connection.execute(recent).scalars().all())
    known = catalogue.types[action.action_type]
    return judge(_completion(known, action), history)


def _completion(known: ActionType, action: sa.Row[Any]) -> CompletedAction:
    return CompletedAction(
        action.issued_at,
        action.accepted_at,
        action.completion_time_ms,
        time_at(known.min_time, action.metadata),
        known.max_time_ms,
    )


def _apply(connection: sa.Connection, action: sa.Row[Any], user: sa.Row[Any], increment: int) -> LedgerEntry:
    """A ledger entry and the score that follows from it."""
    entry = ledger.append(
        user_id=user.id,
        seq=user.ledger_seq,
        previous_score=user.score,
        previous_hash=bytes(user.ledger_hash),
        increment=increment,
        at=action.accepted_at,
        action_id=action.id,
    )
    columns = ("user_id", "seq", "at", "action_id", "previous_score", "increment", "new_score", "previous_hash", "hash")
    values = {name: getattr(entry, name) for name in columns}
    connection.execute(sa.insert(score_history).values(**values, action_type=action.action_type))
    connection.execute(
        sa.update(users)
        .where(users.c.id == user.id)
        .values(
            score=entry.new_score,
            score_reached_at=sa.func.greatest(users.c.score_reached_at, entry.at),
            standing_version=users.c.standing_version + 1,
            total_actions=users.c.total_actions + 1,
            last_action_at=sa.func.greatest(users.c.last_action_at, entry.at),
            ledger_seq=entry.seq,
            ledger_hash=entry.hash,
            updated_at=sa.func.now(),
        )
    )
    return entry


def _write_outcome(
    connection: sa.Connection, action: sa.Row[Any], state: State, verdict: Verdict, entry: LedgerEntry | None
) -> None:
    connection.execute(
        sa.update(actions)
        .where(actions.c.id == action.id)
        .values(
            state=state.value,
            reason=verdict.reason if entry is None else None,
            risk=verdict.risk,
            settled_at=sa.func.clock_timestamp(),
            score_increment=entry and entry.increment,
            previous_score=entry and entry.previous_score,
            new_score=entry and entry.new_score,
        )
    )
    connection.execute(
        sa.insert(audit_log).values(
            event=f"action.{state}",
            actor_id=action.user_id,
            target_id=action.user_id,
            result="success" if entry else "denied",
            risk=verdict.risk,
            details={"actionId": str(action.id), "actionType": action.action_type},
        )
    )
