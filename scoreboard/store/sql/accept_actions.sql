-- Accept the completions of actions that are issued, unexpired and match, and issue the actions that they ask for next.
-- The row's own state is the guard. Without the locks of lock_open_actions.sql nothing may be asked for next.
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
-- :next_ids uuid[]       of the actions to be issued, or NULL as all that follow
-- :next_issued_by uuid[]         NULL unless a game server acts
-- :next_action_types text[]
-- :next_metadata text[]          JSON
-- :next_token_hashes text[]      hexadecimal
-- :next_ttls_s integer[]
--
-- :max_open integer      open actions of one player; the accepted ones have made room
--
-- Rows: intake.AcceptedRow; of several completions of one action one is accepted
-- Materialized, or the check of the caller would be repeated for each pair of rows that are joined.
WITH new AS MATERIALIZED (
    SELECT * FROM unnest(:session_ids, :caller_ids, :roles, :statuses, :ids, :user_ids, :token_hashes,
                         :completion_times_ms, :points, :data, :digests, :ips, :user_agents, :next_ids, :next_issued_by,
                         :next_action_types, :next_metadata, :next_token_hashes, :next_ttls_s) WITH ORDINALITY
         AS new (session_id, caller_id, role, status, id, user_id, token_hash, completion_time_ms, points, data, digest,
                 ip, user_agent, next_id, next_issued_by, next_action_type, next_metadata, next_token_hash, next_ttl_s,
                 place)
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
),
accepted AS (
    UPDATE actions SET state = 'accepted', accepted_at = clock_timestamp(),
           completion_time_ms = new.completion_time_ms, reported_points = new.points, data = new.data,
           body_digest = decode(new.digest, 'hex'), ip = new.ip, user_agent = new.user_agent
    FROM new JOIN open ON open.id = new.id
    WHERE actions.id = new.id AND actions.user_id = new.user_id AND actions.token_hash = decode(new.token_hash, 'hex')
          AND actions.state || '' = 'issued' AND actions.expires_at > clock_timestamp()
    RETURNING actions.accepted_at, actions.expires_at, new.*
),
wanted AS (
    SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY place) AS nth FROM accepted WHERE next_id IS NOT NULL
),
issued AS (
    INSERT INTO actions (id, user_id, issued_by, action_type, metadata, token_hash, issued_at, expires_at)
    SELECT next_id, user_id, next_issued_by, next_action_type, next_metadata::jsonb, decode(next_token_hash, 'hex'),
           accepted_at, accepted_at + next_ttl_s * interval '1 second'
    FROM wanted
    WHERE nth + (SELECT count(*) FROM actions
                 WHERE user_id = wanted.user_id AND state = 'issued'
                       -- As in issue_actions.sql.
                       AND (user_id, expires_at) > (wanted.user_id, wanted.accepted_at))
          -- The statement sees these as they were before it. Counted apart, so that the index alone answers the first.
          - (SELECT count(*) FROM accepted
             WHERE user_id = wanted.user_id AND expires_at > wanted.accepted_at) <= :max_open
    RETURNING id, issued_at, expires_at
)
SELECT accepted.id, accepted.digest, issued.issued_at, issued.expires_at
FROM accepted LEFT JOIN issued ON issued.id = accepted.next_id
