-- Store issued actions, in order as far as their players have fewer than so many open ones. An id that is taken stays
-- what it is: the id of an action that follows a completion is known before it is issued.
--
-- Parallel arrays, an element per action:
-- :session_ids uuid[]    the caller's session
-- :caller_ids uuid[]     the caller's account
-- :roles text[]
-- :statuses text[]
-- :ids uuid[]
-- :user_ids uuid[]
-- :issued_by uuid[]      NULL unless a game server acts
-- :action_types text[]
-- :metadata text[]       JSON
-- :token_hashes text[]   hexadecimal
-- :ttls_s integer[]
--
-- :max_open integer      open actions of one player
--
-- Rows: id, issued_at, expires_at of those that were issued
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
wanted AS (
    SELECT new.*, row_number() OVER (PARTITION BY new.user_id ORDER BY new.place) AS nth
    FROM unnest(:session_ids, :caller_ids, :roles, :statuses, :ids, :user_ids, :issued_by, :action_types, :metadata,
                :token_hashes, :ttls_s) WITH ORDINALITY
         AS new (session_id, caller_id, role, status, id, user_id, issued_by, action_type, metadata, token_hash, ttl_s,
                 place)
    WHERE (
        -- The session lives, and account, role and status of the caller are unchanged. Looked up row by row.
        SELECT users.id = new.caller_id AND users.role = new.role AND users.status = new.status
               AND sessions.revoked_at IS NULL AND sessions.expires_at > now()
        FROM sessions JOIN users ON users.id = sessions.user_id
        WHERE sessions.id = new.session_id
    )
)
INSERT INTO actions (id, user_id, issued_by, action_type, metadata, token_hash, issued_at, expires_at)
SELECT wanted.id, wanted.user_id, wanted.issued_by, wanted.action_type, wanted.metadata::jsonb,
       decode(wanted.token_hash, 'hex'), clock.now, clock.now + wanted.ttl_s * interval '1 second'
FROM wanted, clock
WHERE wanted.nth + (SELECT count(*) FROM actions
                    WHERE user_id = wanted.user_id AND state = 'issued'
                          -- Only the index by players can answer it so: a young database takes the one by time for as
                          -- good, and would read the open actions of all players for each.
                          AND (user_id, expires_at) > (wanted.user_id, clock.now)) <= :max_open
ON CONFLICT (id) DO NOTHING
RETURNING id, issued_at, expires_at
