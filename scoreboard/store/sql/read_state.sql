-- Properties of the database, and the rights among these that the role lacks on existing tables.
--
-- :tables text[]   parallel to the rights
-- :rights text[]   such as UPDATE
--
-- Rows: fitness.StateRow, one
SELECT CAST(current_setting('server_version_num') AS integer) / 10000 AS version,
       pg_encoding_to_char(encoding) AS encoding, datname AS name,
       pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only,
       to_regclass('alembic_version') IS NOT NULL AS is_migrated,
       (SELECT array_agg(needed.access || ' on ' || needed.name ORDER BY needed.name, needed.access)
        FROM unnest(:tables, :rights) AS needed (name, access)
        WHERE to_regclass(needed.name) IS NOT NULL
        AND NOT has_table_privilege(to_regclass(needed.name), needed.access)) AS missing_rights
FROM pg_database WHERE datname = current_database()
