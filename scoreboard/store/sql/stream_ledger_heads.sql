-- What the accounts say of their own ledgers.
--
-- Rows: consistency.LedgerHead
SELECT id, score, score_reached_at, ledger_seq, ledger_hash, created_at FROM users
