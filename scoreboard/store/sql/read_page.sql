-- A page of the board. The rows to skip are skipped in the index alone; that is linear in the offset.
--
-- ``now`` is how new the rows are. On a replica, when what it has replayed last was committed: its own time would give
-- old rows a new version, behind which the newer ones were dropped.
--
-- :offset integer
-- :limit integer
--
-- Rows: board.PageRow, in the board's order
SELECT users.id, users.username, users.score, users.score_reached_at,
       CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time())
            ELSE clock_timestamp() END AS now
FROM users JOIN (
    SELECT score, score_reached_at, id FROM users WHERE status <> 'banned' AND NOT is_hidden
    ORDER BY score DESC, score_reached_at, id LIMIT :limit OFFSET :offset
) AS page ON users.id = page.id
WHERE status <> 'banned' AND NOT is_hidden
ORDER BY users.score DESC, users.score_reached_at, users.id
