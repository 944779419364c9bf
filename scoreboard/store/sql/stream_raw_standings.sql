-- Every account's standing for a rebuild, from the board's end upwards.
--
-- Rows: domain.standings.RawStanding
SELECT uuid_send(id), standing_version, score, CAST(extract(epoch FROM score_reached_at) * 1000000 AS bigint),
       status <> 'banned' AND NOT is_hidden, username
FROM users ORDER BY score, score_reached_at DESC, id DESC
