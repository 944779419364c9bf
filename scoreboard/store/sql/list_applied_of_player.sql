-- Applied actions of one player, the latest ledger entry first.
--
-- The ledger of a player is as old as the player: entries from before there was anything to show, too young or too old
-- ones are left out before action and settlement are looked up. An entry is recorded just before its settlement.
--
-- :user_id uuid             the player
-- :since timestamptz        from this moment on
-- :until timestamptz        to before this one
-- :seq bigint               where the last page ended: the number of the ledger entry
-- :limit integer            how many at most
--
-- Rows: audit_trail.AppliedAction
SELECT settlements.settled_at, settlements.id AS settlement_id,
       array_position(settlements.action_ids, actions.id) AS nth,
       actions.id, actions.user_id, actions.issued_by, actions.action_type, actions.ip, actions.user_agent,
       actions.risk, actions.score_increment, entries.seq
FROM score_history AS entries JOIN actions ON actions.id = entries.action_id
     JOIN settlements ON settlements.id = actions.settlement_id
WHERE entries.user_id = :user_id AND entries.seq < :seq AND entries.action_id IS NOT NULL
      AND settlements.shows_in_audit AND actions.state = 'applied'
      AND settlements.settled_at >= :since AND settlements.settled_at < :until
      AND entries.recorded_at < :until AND entries.recorded_at >= greatest(
          :since, (SELECT min(settled_at) FROM settlements WHERE shows_in_audit)
      ) - interval '1 minute'
ORDER BY entries.seq DESC LIMIT :limit
