"""A settlement is a row of its own; indexes that cost each action more than they gave are gone."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(
        """
        UPDATE actions SET announced_at = settlements.announced_at,
               previous_rank = settlements.previous_ranks[array_position(settlements.action_ids, actions.id)],
               rank = settlements.ranks[array_position(settlements.action_ids, actions.id)]
        FROM settlements WHERE settlements.id = actions.settlement_id;
        ALTER TABLE actions DROP COLUMN settlement_id;
        DROP TABLE settlements;
        CREATE INDEX ix_actions_unannounced ON actions (settled_at)
            WHERE settled_at IS NOT NULL AND announced_at IS NULL;
        ALTER TABLE actions ADD CONSTRAINT uq_actions_token_hash UNIQUE (token_hash);
        DROP INDEX ix_audit_log_actor;
        CREATE INDEX ix_audit_log_actor ON audit_log (actor_id, id);
        """
    )
