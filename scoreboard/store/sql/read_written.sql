-- How far this server has written, and on which timeline: the first eight digits of a file's name. NULL on a standby.
--
-- A standby promoted by mistake goes on by itself, on a timeline of its own.
--
-- Rows: replica.LogEnd, one
SELECT CASE WHEN NOT pg_is_in_recovery() THEN CAST(pg_current_wal_lsn() AS text) END AS position,
       CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline
