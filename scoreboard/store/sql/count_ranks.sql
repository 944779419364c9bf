-- The rank that each of these standings would have among the others today, in their order.
--
-- Two ranges of the index for each, as it can't look for an "or". Linear in the ranks.
--
-- :ids uuid[]
-- :scores bigint[]
-- :reached_at timestamptz[]
--
-- Rows: one per standing, with its rank
SELECT (SELECT count(*) FROM users WHERE status <> 'banned' AND NOT is_hidden AND score > asked.score
        AND id <> asked.id)
       + (SELECT count(*) FROM users WHERE status <> 'banned' AND NOT is_hidden AND score = asked.score
          AND (score_reached_at, id) < (asked.reached_at, asked.id) AND id <> asked.id) + 1
FROM unnest(:ids, :scores, :reached_at)
     WITH ORDINALITY AS asked (id, score, reached_at, nth)
ORDER BY asked.nth
