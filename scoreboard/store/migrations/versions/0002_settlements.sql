-- What one transaction settled, and whether it has been told: one row to write and one to note it on, where every
-- action was a new version of a wide row before. Rows settled earlier keep their ranks in actions.
CREATE TABLE settlements (
    id UUID NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    announced_at TIMESTAMP WITH TIME ZONE,
    action_ids UUID[] NOT NULL,
    previous_ranks BIGINT[],
    ranks BIGINT[],
    CONSTRAINT pk_settlements PRIMARY KEY (id)
);

CREATE INDEX ix_settlements_unannounced ON settlements (settled_at) WHERE announced_at IS NULL;

ALTER TABLE actions ADD COLUMN settlement_id UUID;

INSERT INTO settlements (id, settled_at, action_ids)
SELECT id, settled_at, ARRAY[id] FROM actions WHERE settled_at IS NOT NULL AND announced_at IS NULL;

UPDATE actions SET settlement_id = id WHERE settled_at IS NOT NULL AND announced_at IS NULL;

DROP INDEX ix_actions_unannounced;

-- Random keys: a page of its own to change for each version of each row. An action is found by its id, and its
-- token is compared there.
ALTER TABLE actions DROP CONSTRAINT uq_actions_token_hash;

-- Most events are a player's own: the index by target has them already.
DROP INDEX ix_audit_log_actor;

CREATE INDEX ix_audit_log_actor ON audit_log (actor_id, id) WHERE actor_id IS DISTINCT FROM target_id;
