-- When these players completed their actions, as far as a rule may ask for their late ones.
--
-- Parallel arrays, an element per player:
-- :user_ids uuid[]
-- :since timestamptz[]   from when on
--
-- Rows: settlements.CompletionTimes
SELECT asked.user_id, array_agg(coalesce(actions.completed_at, actions.accepted_at)) AS moments
FROM unnest(:user_ids, :since) AS asked (user_id, since)
     -- By the index of acceptances: no action is completed long after it is accepted.
     JOIN actions ON actions.user_id = asked.user_id AND actions.accepted_at > asked.since
GROUP BY asked.user_id
