-- Write standings as absolute values; an older version never replaces a newer one.
--
-- KEYS  1 sorted set of members by negated score   2 hash player → value
--       3 version counter   4 marker "the board is whole"   5 sum of the players' versions
-- ARGV  1 highest index of the watched top
--       then per standing: id (16 bytes), version, score, reached (8 bytes), visible (1 or 0), name
-- A member is reached .. id; a value is reached .. "version score visible name".
--
-- Returns {whole, version, top before, top after, {old rank, new rank, ...}}; ranks from 0, -1 for none.
-- A standing that was not newer changes nothing: old rank -2, and its rank if it is the very same version.
local standings, players, version_key, whole_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local top_last = tonumber(ARGV[1])

local function rank_of(member)
  return redis.call('ZRANK', standings, member) or -1
end

local top_before = redis.call('ZRANGE', standings, 0, top_last)
local ranks = {}
local changed, gained = false, 0
for i = 2, #ARGV, 6 do
  local id, version, score, reached, visible, name =
    ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local old = redis.call('HGET', players, id)
  local old_version, old_visible, old_member = -1, '0', nil
  if old then
    old_member = string.sub(old, 1, 8) .. id
    local v, _, shown = string.match(old, '^(%d+) (%d+) ([01]) ', 9)
    old_version, old_visible = tonumber(v), shown
  end
  if version > old_version then
    local old_rank = -1
    if old_visible == '1' then
      old_rank = rank_of(old_member)
      redis.call('ZREM', standings, old_member)
    end
    redis.call('HSET', players, id, reached .. ARGV[i + 1] .. ' ' .. score .. ' ' .. visible .. ' ' .. name)
    local new_rank = -1
    if visible == '1' then
      redis.call('ZADD', standings, '-' .. score, reached .. id)
      new_rank = rank_of(reached .. id)
    end
    ranks[#ranks + 1] = old_rank
    ranks[#ranks + 1] = new_rank
    changed, gained = true, gained + version - math.max(old_version, 0)
  else
    ranks[#ranks + 1] = -2
    ranks[#ranks + 1] = (version == old_version and old_visible == '1') and rank_of(old_member) or -1
  end
end

local version = tonumber(redis.call('GET', version_key) or '0')
if changed then
  local now = redis.call('TIME')
  version = math.max(version + 1, now[1] * 1000000 + now[2])
  redis.call('SET', version_key, string.format('%.0f', version))
  redis.call('INCRBY', KEYS[5], string.format('%.0f', gained))
end
-- One that was restarted since may have come back with an older copy: its ranks mean nothing. ``run``: server_run.py.
return {
  redis.call('GET', whole_key) == run and 1 or 0, string.format('%.0f', version),
  top_before, redis.call('ZRANGE', standings, 0, top_last), ranks
}
