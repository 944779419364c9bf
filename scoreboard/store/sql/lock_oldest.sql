-- Lock the oldest accepted actions that are not in another worker's hands, in the order of acceptance.
--
-- :older_than interval   since their acceptance
-- :limit integer         how many at most
-- :passing_over uuid[]   actions to leave out
--
-- Rows: settlements.AcceptedAction
SELECT id, user_id, issued_by, action_type, metadata, issued_at, accepted_at, completed_at, completion_time_ms,
       reported_points
FROM actions
WHERE state = 'accepted' AND accepted_at < now() - :older_than AND id <> ALL (:passing_over)
ORDER BY accepted_at LIMIT :limit
FOR NO KEY UPDATE SKIP LOCKED
