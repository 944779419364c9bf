-- Take in finished actions of many players as accepted ones, each external id once.
--
-- :session_id uuid            the caller's session
-- :caller_id uuid             the caller's account
-- :role text
-- :status text
-- :ip inet
-- :user_agent text
-- :keep interval              for how long an external id is remembered
-- Parallel arrays, an element per action:
-- :ids uuid[]
-- :external_ids text[]        no two alike
-- :digests text[]             of the contents, hexadecimal
-- :user_ids uuid[]
-- :action_types text[]
-- :metadata text[]            JSON
-- :started_at timestamptz[]
-- :completed_at timestamptz[]
-- :completion_times_ms bigint[]
-- :points bigint[]            as reported, or NULL
-- :data text[]
--
-- Rows: id of each action that was taken in
WITH caller AS MATERIALIZED (
    -- Still who they were taken for; one moment for the whole batch, so that its rows are equally old on the board.
    SELECT clock_timestamp() AS now
    FROM sessions JOIN users ON users.id = sessions.user_id
    WHERE sessions.id = :session_id AND sessions.revoked_at IS NULL AND sessions.expires_at > now()
          AND users.id = :caller_id AND users.role = :role AND users.status = :status
),
new AS MATERIALIZED (
    SELECT new.*, caller.now
    FROM unnest(:ids, :external_ids, :digests, :user_ids, :action_types, :metadata, :started_at, :completed_at,
                :completion_times_ms, :points, :data)
         AS new (id, external_id, digest, user_id, action_type, metadata, started_at, completed_at,
                 completion_time_ms, points, data)
         CROSS JOIN caller
    -- Looked up row by row, whatever the planner thinks of the table.
    WHERE (SELECT users.role <> 'system' AND users.status <> 'banned' FROM users WHERE users.id = new.user_id)
),
kept AS (
    INSERT INTO external_ids (account_id, external_id, action_id, body_digest, created_at)
    SELECT :caller_id, external_id, id, decode(digest, 'hex'), now
    -- In one order everywhere: two batches that share ids never deadlock.
    FROM new ORDER BY external_id COLLATE "C"
    ON CONFLICT (account_id, external_id) DO UPDATE
        SET action_id = excluded.action_id, body_digest = excluded.body_digest, created_at = excluded.created_at
        WHERE external_ids.created_at <= now() - :keep
    RETURNING action_id
)
INSERT INTO actions (id, user_id, issued_by, action_type, metadata, token_hash, state, issued_at, expires_at,
                     accepted_at, completed_at, completion_time_ms, reported_points, data, body_digest, ip, user_agent)
-- No token was handed out, so there is none whose hash this is.
SELECT new.id, new.user_id, :caller_id, new.action_type, new.metadata::jsonb, '', 'accepted', new.started_at, new.now,
       new.now, new.completed_at, new.completion_time_ms, new.points, new.data, decode(new.digest, 'hex'), :ip,
       :user_agent
FROM new JOIN kept ON kept.action_id = new.id
RETURNING id
