-- One count of open actions per player at a time, so that parallel requests can't pass the cap together.
-- A statement of its own: the count's snapshot must begin when the locks are held. They end with the transaction.
--
-- :keys bigint[]   the low halves of the players' ids
--
-- Rows: one per key, of no use
SELECT pg_advisory_xact_lock(key) FROM (SELECT unnest(:keys) AS key ORDER BY 1) AS keys
