-- Actions without exactly one ledger entry of their own points if they were applied, or with any if they were not.
--
-- Rows: consistency.UnbalancedAction
SELECT actions.id, actions.state, count(score_history.seq) AS entries
FROM actions LEFT JOIN score_history ON score_history.action_id = actions.id
GROUP BY actions.id
HAVING count(score_history.seq) <> CASE WHEN actions.state = 'applied' THEN 1 ELSE 0 END
       OR coalesce(sum(score_history.increment), 0) <> coalesce(actions.score_increment, 0)
