-- Applied actions that a game server requested, the latest settled first.
--
-- :user_id uuid             the game server's account
-- :since timestamptz        from this moment on
-- :until timestamptz        to before this one
-- :settled_at timestamptz   where the last page ended
-- :settlement_id uuid       there
-- :nth integer              there: the index in the settlement
-- :limit integer            how many at most
--
-- Rows: audit_trail.AppliedAction
SELECT settlements.settled_at, settlements.id AS settlement_id,
       array_position(settlements.action_ids, actions.id) AS nth,
       actions.id, actions.user_id, actions.issued_by, actions.action_type, actions.ip, actions.user_agent,
       actions.risk, actions.score_increment, CAST(NULL AS bigint) AS seq
FROM actions JOIN settlements ON settlements.id = actions.settlement_id
WHERE actions.issued_by = :user_id AND actions.settled_at <= :settled_at
      AND settlements.shows_in_audit AND actions.state = 'applied'
      AND settlements.settled_at >= :since AND settlements.settled_at < :until
      -- The first condition is one that the index can look for.
      AND settlements.settled_at <= :settled_at
      AND (settlements.settled_at, settlements.id, array_position(settlements.action_ids, actions.id))
          < (:settled_at, :settlement_id, :nth)
ORDER BY actions.settled_at DESC, settlements.id DESC, nth DESC LIMIT :limit
