-- Count hits against fixed windows, as flask-limiter's own script does for one.
--
-- KEYS  a counter for each hit; a counter may come several times
-- ARGV  one text: for each hit the seconds its window lasts, and its cost
-- Returns one text: for each hit the count with it, and the seconds until the window ends.
-- Texts, because each part of a command or a reply costs the caller some microseconds.
local each_number = string.gmatch(ARGV[1], '%d+')
local counted = {}
for i, key in ipairs(KEYS) do
  local expiry, cost = tonumber(each_number()), tonumber(each_number())
  local count = redis.call('INCRBY', key, cost)
  local ttl = -1
  if count ~= cost then
    ttl = redis.call('TTL', key)
  end
  -- A new window; or a counter whose end somebody took away, which would refuse for ever.
  if ttl < 0 then
    redis.call('EXPIRE', key, expiry)
    ttl = expiry
  end
  counted[i] = string.format('%d %d', count, ttl)
end
return table.concat(counted, ' ')
