-- Lock those of these actions that are accepted and not in another worker's hands, in the order of acceptance.
--
-- :action_ids uuid[]
--
-- Rows: settlements.AcceptedAction
SELECT id, user_id, issued_by, action_type, metadata, issued_at, accepted_at, completed_at, completion_time_ms,
       reported_points
FROM actions
-- Asked so that the partial index of unsettled rows can't be taken for a short way: while an old
-- transaction is open it is full of settled ones.
WHERE id = ANY (:action_ids) AND state || '' = 'accepted'
ORDER BY accepted_at, id
FOR NO KEY UPDATE SKIP LOCKED
