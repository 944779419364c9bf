-- Accept the completions of actions that are issued, unexpired and match. The row's own state is the guard.
--
-- Parallel arrays, an element per completion:
-- :session_ids uuid[]    the caller's session
-- :caller_ids uuid[]     the caller's account
-- :roles text[]
-- :statuses text[]
-- :ids uuid[]            of the actions
-- :user_ids uuid[]
-- :token_hashes text[]   hexadecimal
-- :completion_times_ms bigint[]
-- :points bigint[]       as reported, or NULL
-- :data text[]
-- :digests text[]        of the bodies, hexadecimal
-- :ips inet[]
-- :user_agents text[]
--
-- Rows: id of the action and digest of the body that was accepted; of several completions of one action one is
-- Materialized, or the check of the caller would be repeated for each pair of rows that are joined.
WITH new AS MATERIALIZED (
    SELECT * FROM unnest(:session_ids, :caller_ids, :roles, :statuses, :ids, :user_ids, :token_hashes,
                         :completion_times_ms, :points, :data, :digests, :ips, :user_agents)
         AS new (session_id, caller_id, role, status, id, user_id, token_hash, completion_time_ms, points, data, digest,
                 ip, user_agent)
    WHERE (
        -- The session lives, and account, role and status of the caller are unchanged. Looked up row by row.
        SELECT users.id = new.caller_id AND users.role = new.role AND users.status = new.status
               AND sessions.revoked_at IS NULL AND sessions.expires_at > now()
        FROM sessions JOIN users ON users.id = sessions.user_id
        WHERE sessions.id = new.session_id
    )
),
open AS MATERIALIZED (
    -- Asked so that the partial index of open actions, which holds all players', can't be taken for a short way.
    SELECT id FROM actions WHERE id = ANY (:ids) AND state || '' = 'issued' ORDER BY id FOR NO KEY UPDATE
)
UPDATE actions SET state = 'accepted', accepted_at = clock_timestamp(), completion_time_ms = new.completion_time_ms,
       reported_points = new.points, data = new.data, body_digest = decode(new.digest, 'hex'), ip = new.ip,
       user_agent = new.user_agent
FROM new JOIN open ON open.id = new.id
WHERE actions.id = new.id AND actions.user_id = new.user_id AND actions.token_hash = decode(new.token_hash, 'hex')
      AND actions.state || '' = 'issued' AND actions.expires_at > clock_timestamp()
RETURNING actions.id, new.digest
