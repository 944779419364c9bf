-- How new the rows are that this server shows: as ``now`` of read_page.sql, for an empty page.
--
-- Rows: one, with the time
SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time())
            ELSE clock_timestamp() END
