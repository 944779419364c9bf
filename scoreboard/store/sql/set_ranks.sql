-- Set a settlement's ranks unless they are set. Of two calls at once the second waits, and sees the ranks of the first.
--
-- :settlement_id uuid
-- :previous_ranks bigint[]   in the order of its actions; NULL for those without
-- :ranks bigint[]
--
-- Rows: settlements.SettlementRanks, those that hold from now on; none without such a settlement
UPDATE settlements SET previous_ranks = coalesce(previous_ranks, :previous_ranks), ranks = coalesce(ranks, :ranks)
WHERE id = :settlement_id
RETURNING previous_ranks, ranks
