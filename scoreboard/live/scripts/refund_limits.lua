-- Take hits back from counters that still have them; a window that has ended meanwhile stays as it is.
--
-- KEYS  a counter for each hit
-- ARGV  the cost of each
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or '0') >= tonumber(ARGV[i]) then
    redis.call('DECRBY', key, ARGV[i])
  end
end
return 0
