"""Accounts, sessions, actions, the ledger, audit log and anti-cheat findings."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = ("standing_outbox", "fraud_signals", "audit_log", "score_history", "actions", "sessions", "users")


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
