-- Take a slot for one stream under every cap, or under none.
--
-- KEYS  one sorted set of stream ids by lease end for each cap
-- ARGV  1 stream id   2 lease in seconds   then the cap of each key
-- Returns 0 when the slot is taken, else the number of the first full key.
local now = tonumber(redis.call('TIME')[1])
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + i]) then
    return i
  end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + tonumber(ARGV[2]), ARGV[1])
  redis.call('EXPIRE', key, ARGV[2] * 2)
end
return 0
