-- Mark the longest overdue issued actions as expired.
--
-- :limit integer   how many at most
UPDATE actions SET state = 'expired'
WHERE state = 'issued' AND id IN (
    SELECT id FROM actions WHERE state = 'issued' AND expires_at <= now()
    ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
