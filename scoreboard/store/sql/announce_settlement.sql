-- Note that a settlement's outcomes have been published.
-- Lost in a crash of Postgres it is only told again, so the transaction does not wait for the disk.
--
-- :settlement_id uuid
UPDATE settlements SET announced_at = clock_timestamp()
FROM (SELECT set_config('synchronous_commit', 'off', true) AS setting) AS quickly
WHERE id = :settlement_id AND announced_at IS NULL AND quickly.setting = 'off'
