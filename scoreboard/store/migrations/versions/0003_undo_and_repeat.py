"""Unbanning restores a flag, e-mail is optional, admin changes can be repeated, applied actions need no audit row."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Built while everybody writes.
_INDEXES = {
    "ix_settlements_audit": "settlements (settled_at, id) WHERE shows_in_audit",
    "ix_actions_issued_by": "actions (issued_by, settled_at) WHERE issued_by IS NOT NULL AND settled_at IS NOT NULL",
}
# Building waits for transactions that are older; it holds nobody up meanwhile. A backup takes minutes.
_BUILD_S = 600.0


def upgrade() -> None:
    """Each statement is committed by itself, so that no lock is held for longer than that; all may be repeated."""
    with op.get_context().autocommit_block():
        for statement in _script().split(";\n"):
            if statement.strip():
                op.execute(statement)
        for name, definition in _INDEXES.items():
            _build(name, definition)


def downgrade() -> None:
    """E-mail stays optional: accounts without one can't be given any."""
    op.execute(
        """
        INSERT INTO audit_log (at, event, actor_id, target_id, ip, user_agent, result, risk, details)
        SELECT settlements.settled_at, 'action.applied', coalesce(actions.issued_by, actions.user_id), actions.user_id,
               actions.ip, actions.user_agent, 'success', actions.risk,
               jsonb_build_object('actionId', actions.id, 'actionType', actions.action_type,
                                  'increment', actions.score_increment, 'reason', NULL)
        FROM settlements JOIN actions ON actions.settlement_id = settlements.id
        WHERE settlements.shows_in_audit AND actions.state = 'applied' ORDER BY settlements.settled_at;
        DROP INDEX ix_actions_issued_by;
        DROP INDEX ix_settlements_audit;
        DROP TABLE idempotency_keys;
        ALTER TABLE settlements DROP COLUMN shows_in_audit;
        ALTER TABLE actions DROP COLUMN reason_details;
        ALTER TABLE users DROP COLUMN status_before_ban;
        """
    )


def _script() -> str:
    return Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")


def _build(name: str, definition: str) -> None:
    """Raises the driver's QueryCanceled when older transactions do not end; the next release phase begins anew.

    By the driver itself: no other statement may go with this one.
    """
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    with connection.cursor() as cursor:
        # What a building that was cut off left behind serves nobody.
        cursor.execute("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (name,))
        if (cursor.fetchone() or (False,))[0]:
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        giving_up = threading.Timer(_BUILD_S, connection.cancel)
        giving_up.daemon = True
        giving_up.start()
        try:
            cursor.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {definition}")
        finally:
            giving_up.cancel()
