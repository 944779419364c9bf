-- Whether this standby has replayed what the primary had written, or, promoted, is on its timeline; and how late it is.
--
-- :position text   of the primary's log
-- :timeline text   of the primary's log
--
-- Rows: replica.Replayed, one
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= CAST(:position AS pg_lsn)
       ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) = :timeline END AS has_arrived,
       pg_is_in_recovery() AS follows,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS lag_s
