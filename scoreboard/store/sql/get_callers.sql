-- The accounts that sessions belong to, and whether the sessions are still alive. Asked for every signed-in request.
--
-- :session_ids uuid[]
--
-- Rows: sessions.FoundSession
SELECT sessions.id AS session_id, users.id AS user_id, users.username, users.role, users.status,
       sessions.revoked_at IS NULL AND sessions.expires_at > now() AS is_alive
FROM sessions JOIN users ON users.id = sessions.user_id
WHERE sessions.id = ANY (:session_ids)
