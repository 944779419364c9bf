-- Count hits against fixed windows, as flask-limiter's own script does for one.
--
-- KEYS  a counter for each hit; a counter may come several times
-- ARGV  for each hit: seconds its window lasts, cost
-- Returns for each hit: the count with it, seconds until the window ends.
local counted = {}
for i, key in ipairs(KEYS) do
  local expiry, cost = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  local count = redis.call('INCRBY', key, cost)
  local ttl = -1
  if count ~= cost then
    ttl = redis.call('TTL', key)
  end
  -- A new window; or a counter whose end somebody took away, which would refuse for ever.
  if ttl < 0 then
    redis.call('EXPIRE', key, expiry)
    ttl = tonumber(expiry)
  end
  counted[2 * i - 1] = count
  counted[2 * i] = ttl
end
return counted
