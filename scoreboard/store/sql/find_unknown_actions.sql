-- Actions that the ledger names and that are not there.
--
-- Rows: one per ledger entry, with the action's id
SELECT action_id FROM score_history
WHERE action_id IS NOT NULL AND NOT EXISTS (SELECT FROM actions WHERE id = score_history.action_id)
