-- Write a batch of outcomes, their ledger entries, the players' new scores, audit rows and the settlement itself.
--
-- :settlement_id uuid
--
-- Parallel arrays, an element per action; those from :increments on hold NULL unless it was applied:
-- :ids uuid[]
-- :user_ids uuid[]
-- :actor_ids uuid[]          who requested it: the player, or a game server
-- :action_types text[]
-- :states text[]
-- :reasons text[]
-- :reason_details text[]     JSON
-- :risks float8[]
-- :increments bigint[]
-- :previous_scores bigint[]
-- :new_scores bigint[]
-- :versions bigint[]         of the standing
-- :entered_at timestamptz[]  time of the ledger entry
-- :seqs bigint[]             its number in the player's ledger
-- :previous_hashes text[]    hexadecimal
-- :hashes text[]             hexadecimal
--
-- Parallel arrays, an element per player whose row changes:
-- :changed_ids uuid[]
-- :changed_scores bigint[]
-- :changed_reached_at timestamptz[]
-- :changed_versions bigint[]
-- :changed_seqs bigint[]
-- :changed_hashes text[]     hexadecimal
-- :changed_actions bigint[]
-- :changed_last_action_at timestamptz[]
-- :changed_statuses text[]
--
-- Rows: one, with the number of actions that were still accepted and are settled now
WITH new AS MATERIALIZED (
    SELECT * FROM unnest(:ids, :user_ids, :actor_ids, :action_types, :states, :reasons, :reason_details, :risks,
                         :increments, :previous_scores, :new_scores, :versions, :entered_at, :seqs,
                         :previous_hashes, :hashes)
        AS new (id, user_id, actor_id, action_type, state, reason, reason_details, risk, increment, previous, score,
                version, at, seq, previous_hash, hash)
),
noted AS (
    INSERT INTO settlements (id, action_ids, shows_in_audit) VALUES (:settlement_id, :ids, true) RETURNING settled_at
),
settled AS (
    UPDATE actions SET state = new.state, reason = new.reason, reason_details = new.reason_details::jsonb,
           risk = new.risk, settled_at = noted.settled_at, score_increment = new.increment,
           previous_score = new.previous, new_score = new.score, standing_version = new.version,
           settlement_id = :settlement_id
    -- As in lock_accepted.sql.
    FROM new, noted WHERE actions.id = new.id AND actions.state || '' = 'accepted'
    RETURNING actions.id, actions.ip, actions.user_agent
),
entered AS (
    INSERT INTO score_history (user_id, seq, at, action_id, action_type, previous_score, increment, new_score,
                               previous_hash, hash)
    SELECT user_id, seq, at, id, action_type, previous, increment, score, decode(previous_hash, 'hex'),
           decode(hash, 'hex')
    FROM new WHERE seq IS NOT NULL
),
scored AS (
    UPDATE users SET score = changed.score, score_reached_at = changed.reached_at,
           standing_version = changed.version, ledger_seq = changed.seq, ledger_hash = decode(changed.hash, 'hex'),
           total_actions = changed.actions, last_action_at = changed.last_action_at, status = changed.status,
           updated_at = clock_timestamp()
    FROM unnest(:changed_ids, :changed_scores, :changed_reached_at, :changed_versions, :changed_seqs, :changed_hashes,
                :changed_actions, :changed_last_action_at, :changed_statuses)
         AS changed (id, score, reached_at, version, seq, hash, actions, last_action_at, status)
    WHERE users.id = changed.id
),
audited AS (
    INSERT INTO audit_log (event, actor_id, target_id, ip, user_agent, result, risk, details)
    SELECT 'action.' || state, actor_id, user_id, settled.ip, settled.user_agent,
           CASE state WHEN 'failed' THEN 'error' ELSE 'denied' END, risk,
           jsonb_build_object('actionId', id, 'actionType', action_type, 'increment', increment, 'reason', reason)
    -- Action and ledger entry say all there is about those that were applied: see store/audit_trail.py.
    FROM new JOIN settled USING (id) WHERE state <> 'applied'
)
SELECT count(*) FROM settled
