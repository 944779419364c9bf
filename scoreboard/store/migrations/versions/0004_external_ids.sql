-- Each statement may be run again: a migration that is cut off begins anew.

-- When a game server says that the action was completed; null for completions that came one by one, whose time is that
-- of their acceptance.
ALTER TABLE actions ADD COLUMN IF NOT EXISTS completed_at TIMESTAMP WITH TIME ZONE;

-- Under which id of its own a game server sent a finished action: the same one again gets the first answer.
CREATE TABLE IF NOT EXISTS external_ids (
    account_id UUID NOT NULL,
    external_id TEXT NOT NULL,
    action_id UUID NOT NULL,
    body_digest BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_external_ids PRIMARY KEY (account_id, external_id)
);

CREATE INDEX IF NOT EXISTS ix_external_ids_created ON external_ids (created_at);
