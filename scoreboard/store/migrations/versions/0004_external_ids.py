"""Game servers send finished actions under ids of their own, with the times at which they were played."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Each statement is committed by itself, so that no lock is held for longer than that; all may be repeated."""
    with op.get_context().autocommit_block():
        for statement in Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                op.execute(statement)


def downgrade() -> None:
    """The actions stay; which id they came under is forgotten."""
    op.execute(
        """
        DROP TABLE external_ids;
        ALTER TABLE actions DROP COLUMN completed_at;
        """
    )
