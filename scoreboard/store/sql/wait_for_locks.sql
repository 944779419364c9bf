-- Set how long the rest of this transaction waits for a lock.
--
-- :timeout text   such as 500ms
--
-- Rows: one, of no use
SELECT set_config('lock_timeout', :timeout, true)
