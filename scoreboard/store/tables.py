"""The schema as SQLAlchemy tables; ``migrations/`` creates it, a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, INET, JSONB, UUID

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Moment = sa.DateTime(timezone=True)
_now = sa.func.now()

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("username", sa.Text, nullable=False),
    sa.Column("username_key", sa.Text, nullable=False),
    # Both null for an account without an address.
    sa.Column("email", sa.Text),
    sa.Column("email_key", sa.Text),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False, server_default="user"),
    sa.Column("status", sa.Text, nullable=False, server_default="active"),
    # The status after an unban, for banned accounts only. Null is active.
    sa.Column("status_before_ban", sa.Text),
    sa.Column("is_hidden", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("score", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("score_reached_at", _Moment, nullable=False),
    # Grows with every change of this player's standing; orders its copies.
    sa.Column("standing_version", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("total_actions", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("last_action_at", _Moment),
    # Head of the player's ledger: the last entry's number and hash.
    sa.Column("ledger_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("ledger_hash", BYTEA, nullable=False),
    sa.Column("created_at", _Moment, nullable=False, server_default=_now),
    sa.Column("updated_at", _Moment, nullable=False, server_default=_now),
    sa.CheckConstraint("role IN ('user', 'admin', 'system')", name="role"),
    sa.CheckConstraint("status IN ('active', 'flagged', 'banned')", name="status"),
    # 2**53 - 1: what JavaScript and a sorted set hold exactly.
    sa.CheckConstraint("score BETWEEN 0 AND 9007199254740991", name="score"),
    sa.UniqueConstraint("username_key"),
    sa.UniqueConstraint("email_key"),
)
# The board's own order, so that any slice of it is an index scan.
sa.Index(
    "ix_users_board",
    users.c.score.desc(),
    users.c.score_reached_at,
    users.c.id,
    postgresql_where=sa.text("status <> 'banned' AND NOT is_hidden"),
)
sa.Index("ix_users_created", users.c.created_at, users.c.id)

sessions = sa.Table(
    "sessions",
    metadata,
    # One sign-in and all tokens refreshed from it: the family.
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("refresh_id", UUID(as_uuid=True), nullable=False),
    sa.Column("created_at", _Moment, nullable=False, server_default=_now),
    sa.Column("expires_at", _Moment, nullable=False),
    sa.Column("revoked_at", _Moment),
    sa.Column("revoke_reason", sa.Text),
    sa.Column("ip", INET),
    sa.Column("user_agent", sa.Text),
)
sa.Index("ix_sessions_live", sessions.c.user_id, postgresql_where=sa.text("revoked_at IS NULL"))
sa.Index("ix_sessions_expires_at", sessions.c.expires_at)

actions = sa.Table(
    "actions",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("issued_by", sa.ForeignKey("users.id")),
    sa.Column("action_type", sa.Text, nullable=False),
    sa.Column("metadata", JSONB, nullable=False),
    sa.Column("token_hash", BYTEA, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="issued"),
    sa.Column("issued_at", _Moment, nullable=False),
    sa.Column("expires_at", _Moment, nullable=False),
    sa.Column("accepted_at", _Moment),
    sa.Column("settled_at", _Moment),
    # Of rows settled before there were settlements; theirs have these three now.
    sa.Column("announced_at", _Moment),
    sa.Column("completion_time_ms", sa.BigInteger),
    sa.Column("reported_points", sa.BigInteger),
    sa.Column("data", sa.Text),
    sa.Column("body_digest", BYTEA),
    sa.Column("ip", INET),
    sa.Column("user_agent", sa.Text),
    sa.Column("reason", sa.Text),
    # Which bound a rejected action broke; null where the reason says it all.
    sa.Column("reason_details", JSONB),
    sa.Column("risk", sa.Float),
    sa.Column("score_increment", sa.BigInteger),
    sa.Column("previous_score", sa.BigInteger),
    sa.Column("new_score", sa.BigInteger),
    # The player's standing version that this action made; null unless applied.
    sa.Column("standing_version", sa.BigInteger),
    sa.Column("previous_rank", sa.BigInteger),
    sa.Column("rank", sa.BigInteger),
    # No foreign key: both rows are written by one statement, and a check of each would cost more than the row.
    sa.Column("settlement_id", UUID(as_uuid=True)),
    # By the game server that sent it as finished; null where the acceptance is the time of completion.
    sa.Column("completed_at", _Moment),
    sa.CheckConstraint(
        "state IN ('issued', 'accepted', 'applied', 'held', 'rejected', 'expired', 'failed')", name="state"
    ),
)
sa.Index("ix_actions_open", actions.c.user_id, actions.c.expires_at, postgresql_where=sa.text("state = 'issued'"))
sa.Index("ix_actions_expiring", actions.c.expires_at, postgresql_where=sa.text("state = 'issued'"))
sa.Index("ix_actions_unsettled", actions.c.accepted_at, postgresql_where=sa.text("state = 'accepted'"))
sa.Index(
    "ix_actions_recent",
    actions.c.user_id,
    actions.c.accepted_at.desc(),
    postgresql_where=sa.text("accepted_at IS NOT NULL"),
)
# The actions of game servers, for the audit log.
sa.Index(
    "ix_actions_issued_by",
    actions.c.issued_by,
    actions.c.settled_at,
    postgresql_where=sa.text("issued_by IS NOT NULL AND settled_at IS NOT NULL"),
)

# A row for each transaction that settles. The arrays are parallel.
settlements = sa.Table(
    "settlements",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("settled_at", _Moment, nullable=False, server_default=sa.func.clock_timestamp()),
    # Set when the outcomes have reached Redis and the event stream; null is work left to do.
    sa.Column("announced_at", _Moment),
    sa.Column("action_ids", ARRAY(UUID(as_uuid=True)), nullable=False),
    # Set once, before anything is told, and never changed. In them null is unknown.
    sa.Column("previous_ranks", ARRAY(sa.BigInteger)),
    sa.Column("ranks", ARRAY(sa.BigInteger)),
    # Its applied actions are shown in the audit log from here; those of earlier releases have rows there.
    sa.Column("shows_in_audit", sa.Boolean, nullable=False, server_default=sa.false()),
)
sa.Index("ix_settlements_unannounced", settlements.c.settled_at, postgresql_where=sa.text("announced_at IS NULL"))

sa.Index(
    "ix_settlements_audit",
    settlements.c.settled_at,
    settlements.c.id,
    postgresql_where=sa.text("shows_in_audit"),
)

# Partitioned by month on "at", which for an action is its accepted_at: so the
# unique key below holds for an action over all partitions.
score_history = sa.Table(
    "score_history",
    metadata,
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("at", _Moment, nullable=False),
    sa.Column("action_id", UUID(as_uuid=True)),
    sa.Column("action_type", sa.Text),
    sa.Column("previous_score", sa.BigInteger, nullable=False),
    sa.Column("increment", sa.BigInteger, nullable=False),
    sa.Column("new_score", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("actor_id", UUID(as_uuid=True)),
    sa.Column("previous_hash", BYTEA, nullable=False),
    sa.Column("hash", BYTEA, nullable=False),
    sa.Column("recorded_at", _Moment, nullable=False, server_default=_now),
    sa.PrimaryKeyConstraint("user_id", "seq", "at"),
    sa.UniqueConstraint("action_id", "at"),
    sa.CheckConstraint("new_score = previous_score + increment AND new_score >= 0", name="sum"),
    postgresql_partition_by="RANGE (at)",
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", _Moment, nullable=False, server_default=_now),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("actor_id", UUID(as_uuid=True)),
    sa.Column("target_id", UUID(as_uuid=True)),
    sa.Column("ip", INET),
    sa.Column("user_agent", sa.Text),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("risk", sa.Float),
    sa.Column("details", JSONB, nullable=False),
)
sa.Index("ix_audit_log_event", audit_log.c.event, audit_log.c.id)
sa.Index("ix_audit_log_target", audit_log.c.target_id, audit_log.c.id)
# Most events are a player's own, and found by their target.
sa.Index(
    "ix_audit_log_actor",
    audit_log.c.actor_id,
    audit_log.c.id,
    postgresql_where=sa.text("actor_id IS DISTINCT FROM target_id"),
)
# An append-only log by time: a block-range index costs next to nothing.
sa.Index("ix_audit_log_at", audit_log.c.at, postgresql_using="brin")

# What an admin asked for under a key, and the answer: the same request again changes nothing.
idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("actor_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body_digest", BYTEA, nullable=False),
    # Null only inside the transaction that makes the change.
    sa.Column("answer", JSONB),
    sa.Column("created_at", _Moment, nullable=False, server_default=_now),
)
sa.Index("ix_idempotency_keys_created", idempotency_keys.c.created_at)

# Under which id of its own a game server sent a finished action.
external_ids = sa.Table(
    "external_ids",
    metadata,
    sa.Column("account_id", UUID(as_uuid=True), primary_key=True),
    sa.Column("external_id", sa.Text, primary_key=True),
    # No foreign keys: all rows of a batch are written by one statement.
    sa.Column("action_id", UUID(as_uuid=True), nullable=False),
    sa.Column("body_digest", BYTEA, nullable=False),
    sa.Column("created_at", _Moment, nullable=False),
)
sa.Index("ix_external_ids_created", external_ids.c.created_at)

fraud_signals = sa.Table(
    "fraud_signals",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", _Moment, nullable=False, server_default=_now),
    sa.Column("action_id", UUID(as_uuid=True), nullable=False),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("rule_version", sa.Integer, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("consequence", sa.Text, nullable=False),
    sa.Column("evidence", JSONB, nullable=False),
)
sa.Index("ix_fraud_signals_user", fraud_signals.c.user_id, fraud_signals.c.id)
sa.Index("ix_fraud_signals_action", fraud_signals.c.action_id)

# Players whose standing changed outside settling (registered, banned, adjusted …)
# and has perhaps not reached Redis yet. Written in the change's own transaction.
standing_outbox = sa.Table(
    "standing_outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    # Both null unless the change was one of the score.
    sa.Column("previous_score", sa.BigInteger),
    sa.Column("new_score", sa.BigInteger),
    sa.Column("created_at", _Moment, nullable=False, server_default=_now),
)
sa.Index("ix_standing_outbox_user", standing_outbox.c.user_id)
