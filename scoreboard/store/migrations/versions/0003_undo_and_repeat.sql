-- Each statement may be run again: a migration that is cut off begins anew.

-- What an unban gives back.
ALTER TABLE users ADD COLUMN IF NOT EXISTS status_before_ban TEXT;

-- An address is optional.
ALTER TABLE users ALTER COLUMN email DROP NOT NULL, ALTER COLUMN email_key DROP NOT NULL;

-- Which bound a rejected action broke, and by how much.
ALTER TABLE actions ADD COLUMN IF NOT EXISTS reason_details JSONB;

-- Whether the settlement's applied actions are shown in the audit log from here; older ones have rows there.
ALTER TABLE settlements ADD COLUMN IF NOT EXISTS shows_in_audit BOOLEAN DEFAULT false NOT NULL;

-- Answers to changes by admins, for those who repeat them.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    actor_id UUID NOT NULL,
    key TEXT NOT NULL,
    body_digest BYTEA NOT NULL,
    answer JSONB,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_idempotency_keys PRIMARY KEY (actor_id, key)
);

CREATE INDEX IF NOT EXISTS ix_idempotency_keys_created ON idempotency_keys (created_at);

-- Accounts that were flagged when they were banned: the audit log knows.
UPDATE users SET status_before_ban = 'flagged'
WHERE status = 'banned' AND status_before_ban IS NULL AND 'user.flagged' = (
    SELECT event FROM audit_log
    WHERE target_id = users.id AND event IN ('user.flagged', 'user.cleared', 'user.unbanned')
    ORDER BY id DESC LIMIT 1
);
