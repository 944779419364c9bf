-- The heads of all ledgers, as the accounts have them.
--
-- Rows: consistency.LedgerHead
SELECT id, score, score_reached_at, ledger_seq, ledger_hash, created_at FROM users
