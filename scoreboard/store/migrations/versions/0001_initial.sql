CREATE TABLE audit_log (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    event TEXT NOT NULL,
    actor_id UUID,
    target_id UUID,
    ip INET,
    user_agent TEXT,
    result TEXT NOT NULL,
    risk FLOAT,
    details JSONB NOT NULL,
    CONSTRAINT pk_audit_log PRIMARY KEY (id)
);

CREATE INDEX ix_audit_log_actor ON audit_log (actor_id, id);

CREATE INDEX ix_audit_log_at ON audit_log USING brin (at);

CREATE INDEX ix_audit_log_event ON audit_log (event, id);

CREATE INDEX ix_audit_log_target ON audit_log (target_id, id);

CREATE TABLE users (
    id UUID NOT NULL,
    username TEXT NOT NULL,
    username_key TEXT NOT NULL,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    role TEXT DEFAULT 'user' NOT NULL,
    status TEXT DEFAULT 'active' NOT NULL,
    is_hidden BOOLEAN DEFAULT false NOT NULL,
    score BIGINT DEFAULT '0' NOT NULL,
    score_reached_at TIMESTAMP WITH TIME ZONE NOT NULL,
    standing_version BIGINT DEFAULT '1' NOT NULL,
    total_actions BIGINT DEFAULT '0' NOT NULL,
    last_action_at TIMESTAMP WITH TIME ZONE,
    ledger_seq BIGINT DEFAULT '0' NOT NULL,
    ledger_hash BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT ck_users_role CHECK (role IN ('user', 'admin', 'system')),
    CONSTRAINT ck_users_status CHECK (status IN ('active', 'flagged', 'banned')),
    CONSTRAINT ck_users_score CHECK (score BETWEEN 0 AND 9007199254740991),
    CONSTRAINT uq_users_username_key UNIQUE (username_key),
    CONSTRAINT uq_users_email_key UNIQUE (email_key)
);

CREATE INDEX ix_users_board ON users (score DESC, score_reached_at, id) WHERE status <> 'banned' AND NOT is_hidden;

CREATE INDEX ix_users_created ON users (created_at, id);

CREATE TABLE actions (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    issued_by UUID,
    action_type TEXT NOT NULL,
    metadata JSONB NOT NULL,
    token_hash BYTEA NOT NULL,
    state TEXT DEFAULT 'issued' NOT NULL,
    issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    accepted_at TIMESTAMP WITH TIME ZONE,
    settled_at TIMESTAMP WITH TIME ZONE,
    announced_at TIMESTAMP WITH TIME ZONE,
    completion_time_ms BIGINT,
    reported_points BIGINT,
    data TEXT,
    body_digest BYTEA,
    ip INET,
    user_agent TEXT,
    reason TEXT,
    risk FLOAT,
    score_increment BIGINT,
    previous_score BIGINT,
    new_score BIGINT,
    standing_version BIGINT,
    previous_rank BIGINT,
    rank BIGINT,
    CONSTRAINT pk_actions PRIMARY KEY (id),
    CONSTRAINT ck_actions_state CHECK (state IN ('issued', 'accepted', 'applied', 'held', 'rejected', 'expired', 'failed')),
    CONSTRAINT uq_actions_token_hash UNIQUE (token_hash),
    CONSTRAINT fk_actions_user_id FOREIGN KEY(user_id) REFERENCES users (id),
    CONSTRAINT fk_actions_issued_by FOREIGN KEY(issued_by) REFERENCES users (id)
);

CREATE INDEX ix_actions_expiring ON actions (expires_at) WHERE state = 'issued';

CREATE INDEX ix_actions_open ON actions (user_id, expires_at) WHERE state = 'issued';

CREATE INDEX ix_actions_recent ON actions (user_id, accepted_at DESC) WHERE accepted_at IS NOT NULL;

CREATE INDEX ix_actions_unannounced ON actions (settled_at) WHERE settled_at IS NOT NULL AND announced_at IS NULL;

CREATE INDEX ix_actions_unsettled ON actions (accepted_at) WHERE state = 'accepted';

CREATE TABLE fraud_signals (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    action_id UUID NOT NULL,
    user_id UUID NOT NULL,
    rule TEXT NOT NULL,
    rule_version INTEGER NOT NULL,
    severity TEXT NOT NULL,
    mode TEXT NOT NULL,
    consequence TEXT NOT NULL,
    evidence JSONB NOT NULL,
    CONSTRAINT pk_fraud_signals PRIMARY KEY (id),
    CONSTRAINT fk_fraud_signals_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_fraud_signals_action ON fraud_signals (action_id);

CREATE INDEX ix_fraud_signals_user ON fraud_signals (user_id, id);

CREATE TABLE score_history (
    user_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    action_id UUID,
    action_type TEXT,
    previous_score BIGINT NOT NULL,
    increment BIGINT NOT NULL,
    new_score BIGINT NOT NULL,
    reason TEXT,
    actor_id UUID,
    previous_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_score_history PRIMARY KEY (user_id, seq, at),
    CONSTRAINT uq_score_history_action_id_at UNIQUE (action_id, at),
    CONSTRAINT ck_score_history_sum CHECK (new_score = previous_score + increment AND new_score >= 0),
    CONSTRAINT fk_score_history_user_id FOREIGN KEY(user_id) REFERENCES users (id)
) PARTITION BY RANGE (at);

CREATE TABLE sessions (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    refresh_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    revoke_reason TEXT,
    ip INET,
    user_agent TEXT,
    CONSTRAINT pk_sessions PRIMARY KEY (id),
    CONSTRAINT fk_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);

CREATE INDEX ix_sessions_live ON sessions (user_id) WHERE revoked_at IS NULL;

CREATE TABLE standing_outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    user_id UUID NOT NULL,
    previous_score BIGINT,
    new_score BIGINT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_standing_outbox PRIMARY KEY (id),
    CONSTRAINT fk_standing_outbox_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_standing_outbox_user ON standing_outbox (user_id);

-- Catches what no month takes; empty while the months are made in time.
CREATE TABLE score_history_default PARTITION OF score_history DEFAULT;
