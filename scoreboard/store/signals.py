"""Anti-cheat findings with the evidence they were based on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.rules import Signal
from scoreboard.store.tables import fraud_signals


@dataclass(frozen=True, slots=True)
class SignalRow:
    action_id: UUID
    user_id: UUID
    signal: Signal


def record(connection: sa.Connection, rows: Sequence[SignalRow]) -> None:
    if not rows:
        return
    connection.execute(
        sa.insert(fraud_signals),
        [
            {
                "action_id": row.action_id,
                "user_id": row.user_id,
                "rule": row.signal.rule.name,
                "rule_version": row.signal.rule.version,
                "severity": row.signal.rule.severity.value,
                "mode": row.signal.rule.mode.value,
                "consequence": row.signal.rule.consequence.value,
                "evidence": dict(row.signal.evidence),
            }
            for row in rows
        ],
    )
