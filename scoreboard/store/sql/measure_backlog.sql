-- How many actions are accepted and not settled, how old the oldest is, and how many are settled and not announced.
--
-- :count_max integer   counting stops there
--
-- Rows: actions.Backlog, one
SELECT count(*) AS unsettled,
       CAST(greatest(0, coalesce(extract(epoch FROM now() - min(accepted_at)), 0)) AS float8) AS oldest_unsettled_s,
       (SELECT CAST(coalesce(sum(actions), 0) AS bigint)
        FROM (SELECT cardinality(action_ids) AS actions FROM settlements WHERE announced_at IS NULL LIMIT :count_max)
            AS unannounced) AS unannounced
FROM (SELECT accepted_at FROM actions WHERE state = 'accepted' ORDER BY accepted_at LIMIT :count_max) AS unsettled
