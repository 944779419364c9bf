"""An admin asks for a rebuild of the board."""

from __future__ import annotations

from collections.abc import Callable

from scoreboard.store import audit, idempotency
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.engine import Database
from scoreboard.store.idempotency import KeyedRequest
from scoreboard.store.sessions import Caller


def order_rebuild(
    database: Database, send: Callable[[], None], *, admin: Caller, origin: Origin, request: KeyedRequest | None
) -> None:
    """Audit it and ``send`` the order to the workers, once for each request that has a key.

    Raises what ``send`` raises; then nothing is kept, and the same request may be sent again. Sent before the commit:
    a rebuild too many does no harm, one that was promised and never ordered would.
    """
    with database.write() as connection:
        if request is not None and idempotency.claim(connection, request) is not None:
            return
        audit.record(connection, AuditEvent("leaderboard.rebuild_requested", actor_id=admin.user_id, origin=origin))
        if request is not None:
            idempotency.keep_answer(connection, request, {})
        send()
