-- Declare the board whole, unless Redis was emptied or another rebuild began meanwhile.
--
-- KEYS  1 marker "whole"   2 rebuilder's token   3 version counter
-- ARGV  1 token
-- The marker holds ``run``, the id of the server's run: server_run.py.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], run)
local now = redis.call('TIME')
local version = math.max(tonumber(redis.call('GET', KEYS[3]) or '0') + 1, now[1] * 1000000 + now[2])
redis.call('SET', KEYS[3], string.format('%.0f', version))
return 1
