-- All accounts of one moment, and how far Redis may rightly be behind them.
--
-- A note may stand for any number of changes of its player, an action raises a version by one.
--
-- Rows: board.Totals
SELECT count(*) FILTER (WHERE status <> 'banned' AND NOT is_hidden) AS players,
       (SELECT count(*) FROM standing_outbox) AS noted,
       CAST(coalesce(sum(standing_version), 0) AS bigint) AS versions,
       CAST((SELECT coalesce(sum(standing_version), 0) FROM users WHERE id IN (SELECT user_id FROM standing_outbox))
            + (SELECT coalesce(sum(cardinality(action_ids)), 0) FROM settlements WHERE announced_at IS NULL) AS bigint)
           AS versions_pending
FROM users
