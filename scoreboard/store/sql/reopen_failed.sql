-- Make failed actions accepted ones again, as they were before they were settled.
--
-- :before timestamptz   failed before this moment
-- :limit integer        how many at most
--
-- Rows: actions.Reopened
UPDATE actions SET state = 'accepted', reason = NULL, reason_details = NULL, settled_at = NULL, settlement_id = NULL
WHERE state = 'failed' AND id IN (
    SELECT id FROM actions WHERE state = 'failed' AND settled_at < :before
    LIMIT :limit FOR UPDATE SKIP LOCKED
)
RETURNING id AS action_id, user_id
