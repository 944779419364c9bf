"""Requests that may be repeated: key, digest and answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from scoreboard.domain.errors import IdempotencyMismatch
from scoreboard.store.tables import idempotency_keys

#: A request that is repeated later is a new one.
KEEP = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request of one person under a key of theirs; the digest tells the very same request from another one."""

    actor_id: UUID
    key: str
    digest: bytes


def claim(connection: sa.Connection, request: KeyedRequest) -> Mapping[str, object] | None:
    """The answer given before; None obliges this transaction to act and to call ``keep_answer``.

    Of several concurrent requests the others wait for the first one: for its answer or, if it is rolled back, to act
    themselves. Raises IdempotencyMismatch, and SQLAlchemy's OperationalError when the first one takes too long.
    """
    fresh = insert(idempotency_keys).values(actor_id=request.actor_id, key=request.key, body_digest=request.digest)
    claimed = connection.execute(
        fresh.on_conflict_do_update(
            constraint=idempotency_keys.primary_key,
            set_={"body_digest": request.digest, "answer": None, "created_at": sa.func.now()},
            where=idempotency_keys.c.created_at < sa.func.now() - KEEP,
        ).returning(sa.true())
    ).one_or_none()
    if claimed is not None:
        return None
    stored = connection.execute(
        sa.select(idempotency_keys.c.body_digest, idempotency_keys.c.answer).where(_is(request))
    ).one()
    if bytes(stored.body_digest) != request.digest:
        raise IdempotencyMismatch
    answer: Mapping[str, object] = stored.answer
    return answer


def keep_answer(connection: sa.Connection, request: KeyedRequest, answer: Mapping[str, object]) -> None:
    """Store the answer to the claimed request in the transaction of its change."""
    connection.execute(sa.update(idempotency_keys).where(_is(request)).values(answer=dict(answer)))


def delete_old(connection: sa.Connection, *, limit: int) -> int:
    """Drop keys whose time is over, ``limit`` at most; returns how many."""
    old = (
        sa.select(idempotency_keys.c.actor_id, idempotency_keys.c.key)
        .where(idempotency_keys.c.created_at < sa.func.now() - KEEP)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("old")
        .prefix_with("MATERIALIZED")
    )
    key = sa.tuple_(idempotency_keys.c.actor_id, idempotency_keys.c.key)
    return connection.execute(sa.delete(idempotency_keys).where(key.in_(sa.select(old.c.actor_id, old.c.key)))).rowcount


def _is(request: KeyedRequest) -> sa.ColumnElement[bool]:
    return sa.and_(idempotency_keys.c.actor_id == request.actor_id, idempotency_keys.c.key == request.key)
