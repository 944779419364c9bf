-- The oldest settlements that are not announced yet, settled some seconds ago or earlier.
--
-- :older_than interval   since they were settled
-- :limit integer         how many at most
--
-- Rows: settlements.Unannounced
SELECT id, action_ids FROM settlements
WHERE settled_at < now() - :older_than AND announced_at IS NULL
ORDER BY settled_at LIMIT :limit
