-- A slice of the board, whole at one moment.
--
-- KEYS  1 sorted set   2 hash player → value   3 version counter   4 marker "the board is whole"
-- ARGV  1 id (16 bytes) of the player to look around, or ''
--       2 first index, or radius around that player   3 number of rows (ignored with a player); at most some thousands
--
-- Returns {0} when the board is not whole, else {1, version, players, rank, first index, {member, ...}, {value, ...}};
-- rank from 0, -1 when there is no such player on the board.
-- A server that was restarted may have come back with an older copy. ``run``: server_run.py.
if redis.call('GET', KEYS[4]) ~= run then
  return {0}
end
local id, first, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local rank = -1
if id ~= '' then
  local value = redis.call('HGET', KEYS[2], id)
  if value then
    rank = redis.call('ZRANK', KEYS[1], string.sub(value, 1, 8) .. id) or -1
  end
  local radius = first
  first = math.max(0, rank - radius)
  count = rank < 0 and 0 or rank + radius - first + 1
end
local members, values = {}, {}
if count > 0 then
  members = redis.call('ZRANGE', KEYS[1], first, first + count - 1)
end
if #members > 0 then
  local ids = {}
  for i, member in ipairs(members) do
    ids[i] = string.sub(member, 9)
  end
  values = redis.call('HMGET', KEYS[2], unpack(ids))
end
return {
  1, redis.call('GET', KEYS[3]) or '0', redis.call('ZCARD', KEYS[1]), rank, first, members, values
}
