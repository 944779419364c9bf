-- Write many standings into a board that is not read yet, for its rebuilder; an older version never replaces a newer.
--
-- KEYS  1 sorted set of members by negated score   2 hash player → value   3 rebuilder's token
--       4 sum of the players' versions
-- ARGV  1 token of the calling rebuilder
--       2 standings, each player once, one behind the other: id (16 bytes), version and negated score (doubles),
--         visible (1 byte: 1 or 0), length (2 bytes) and bytes of the value; numbers are big-endian
-- Members and values are those of apply_standings. Live changes may have come before these.
--
-- Commands for all standings at once cost half of what commands for each do. No ranks, no version: the board is not
-- read yet.
local standings, players = KEYS[1], KEYS[2]
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return redis.error_reply('LOST the rebuild was overtaken')
end

local packed, position, count = ARGV[2], 1, 0
local ids, versions, scores, visible, values = {}, {}, {}, {}, {}
while position <= #packed do
  count = count + 1
  ids[count], versions[count], scores[count], visible[count], values[count], position =
    struct.unpack('>c16ddBHc0', packed, position)
end
if count == 0 then
  return 0
end

local olds = redis.call('HMGET', players, unpack(ids))
local new_values, new_members, gained = {}, {}, 0
for i = 1, count do
  local id, old, is_newer, old_version = ids[i], olds[i], true, 0
  if old then
    local version, _, shown = string.match(old, '^(%d+) (%d+) ([01]) ', 9)
    old_version = tonumber(version)
    is_newer = versions[i] > old_version
    if is_newer and shown == '1' then
      redis.call('ZREM', standings, string.sub(old, 1, 8) .. id)
    end
  end
  if is_newer then
    gained = gained + versions[i] - old_version
    new_values[#new_values + 1] = id
    new_values[#new_values + 1] = values[i]
    if visible[i] == 1 then
      new_members[#new_members + 1] = scores[i]
      new_members[#new_members + 1] = string.sub(values[i], 1, 8) .. id
    end
  end
end
if #new_values > 0 then
  redis.call('HSET', players, unpack(new_values))
  redis.call('INCRBY', KEYS[4], string.format('%.0f', gained))
end
if #new_members > 0 then
  redis.call('ZADD', standings, unpack(new_members))
end
return #new_values / 2
