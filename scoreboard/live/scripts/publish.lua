-- Append entries to the event stream; each takes as many offsets as it holds events.
--
-- The stream id is epoch-offset: the epoch is the time (ms) at which the stream began, so ids keep
-- growing when Redis has been emptied and offsets begin anew. So they do when the server was restarted,
-- which may have brought back an older copy: its next offsets have been given out before. ``run``: server_run.py.
--
-- KEYS  1 stream   2 hash {epoch, offset, run of the server}
-- ARGV  1 entries to keep, about   2 '1' to begin a new epoch
--       then per entry: number of events, the entry packed into one value
-- Returns {epoch, offset of the last event}.
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local offset = tonumber(redis.call('HGET', KEYS[2], 'offset') or '0')
if not epoch or ARGV[2] == '1' or redis.call('HGET', KEYS[2], 'run') ~= run then
  local now = redis.call('TIME')
  local fresh = now[1] * 1000 + math.floor(now[2] / 1000)
  epoch = string.format('%.0f', math.max(fresh, tonumber(epoch or '0') + 1))
  offset = 0
end
for i = 3, #ARGV, 2 do
  offset = offset + tonumber(ARGV[i])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], epoch .. '-' .. string.format('%.0f', offset), 'e', ARGV[i + 1])
end
redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', string.format('%.0f', offset), 'run', run)
return {epoch, string.format('%.0f', offset)}
