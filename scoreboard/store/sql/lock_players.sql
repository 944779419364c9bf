-- Lock these players until the transaction ends, in id order so that two lockers never deadlock; waits for them.
--
-- :user_ids uuid[]
-- :since timestamptz   from when on the moments of their completions are wanted
--
-- Rows: settlements.LockedPlayer
SELECT id, username, status, is_hidden, score, score_reached_at, standing_version, total_actions, last_action_at,
       ledger_seq, ledger_hash,
       (SELECT array_agg(coalesce(completed_at, accepted_at)) FROM actions
        WHERE user_id = users.id AND accepted_at > :since) AS recent
FROM users WHERE id = ANY (:user_ids)
ORDER BY id FOR NO KEY UPDATE
