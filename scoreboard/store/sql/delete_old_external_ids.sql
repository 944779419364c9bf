-- Forget the oldest of the external ids whose time is over.
--
-- :keep interval    for how long they are remembered
-- :limit integer    how many at most
DELETE FROM external_ids WHERE ctid IN (
    SELECT ctid FROM external_ids WHERE created_at <= now() - :keep
    ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
