-- What has to be known of a batch before any of it is taken in.
--
-- :session_id uuid        the caller's session
-- :caller_id uuid         the caller's account
-- :role text
-- :status text
-- :keep interval          for how long an external id is remembered
-- Parallel arrays, an element per row of the batch:
-- :user_ids uuid[]
-- :external_ids text[]
--
-- Rows: batch.LookedUp, one per row of the batch in its order; of an empty batch one whose nth is null
SELECT caller.now, caller.is_true AS is_caller, asked.nth, player.role, player.status, kept.action_id, kept.body_digest
FROM (
    SELECT clock_timestamp() AS now, EXISTS (
        SELECT FROM sessions JOIN users ON users.id = sessions.user_id
        WHERE sessions.id = :session_id AND sessions.revoked_at IS NULL AND sessions.expires_at > now()
              AND users.id = :caller_id AND users.role = :role AND users.status = :status
    ) AS is_true
) AS caller
LEFT JOIN unnest(:user_ids, :external_ids) WITH ORDINALITY AS asked (user_id, external_id, nth) ON true
-- OFFSET 0: looked up row by row, whatever the planner thinks of the tables.
LEFT JOIN LATERAL (SELECT role, status FROM users WHERE id = asked.user_id OFFSET 0) AS player ON true
LEFT JOIN LATERAL (
    SELECT action_id, body_digest FROM external_ids
    WHERE account_id = :caller_id AND external_id = asked.external_id AND created_at > now() - :keep
    OFFSET 0
) AS kept ON true
ORDER BY asked.nth
