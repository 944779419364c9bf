-- Raise the version above any that Postgres has been given while Redis was away.
--
-- KEYS  1 version counter
local now = redis.call('TIME')
local version = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') + 1, now[1] * 1000000 + now[2])
redis.call('SET', KEYS[1], string.format('%.0f', version))
return 1
