-- Count completions that are told of late against fixed windows, each as though its call had come when it was completed.
--
-- A completion that falls into the window of today's calls, or would begin it, counts there: those who complete one by
-- one and those who are told of in batches share it. An earlier one counts in a window of its own time, which begins
-- with the first completion in it and is kept for as long as it is wide. What any window has no room for counts in none.
--
-- ARGV[1]  now, in milliseconds
-- ARGV[2]  of the completions: for each the caller's part of the keys, when it was completed, 1 if its player is
--          flagged else 0, and a mark: the same one again is let through and not counted
-- ARGV[3]  what the key of a mark begins with
-- ARGV[4]  how many seconds a mark is kept
-- then     for each window: begin and end of its key, what it allows, its width in milliseconds, 1 if it is one of
--          flagged players only
-- Returns one text: for each completion 0 and 0; or the number of the window that refuses it the longest, from 1, and
-- the milliseconds until that one begins anew.
-- Keys are made here: thirteen for each completion would cost the caller more than the counting.
local now, marks, mark_s = tonumber(ARGV[1]), ARGV[3], ARGV[4]
local windows = {}
for i = 5, #ARGV, 5 do
  windows[#windows + 1] = {
    head = ARGV[i], tail = ARGV[i + 1], allows = tonumber(ARGV[i + 2]), width = tonumber(ARGV[i + 3]),
    is_of_flagged = ARGV[i + 4] == '1'
  }
end

-- A window of the past: by the stretch of time in which it begins. A stretch is as wide as a window.
local function find_late(key, width, at)
  local nth = math.floor(at / width)
  local own = string.format('%s/late/%d', key, nth)
  local found = redis.call('HMGET', own, 'from', 'count')
  local from, count = tonumber(found[1]), tonumber(found[2])
  if from and at >= from then
    return {late = own, count = count, left = redis.call('PTTL', own)}
  end
  local before = string.format('%s/late/%d', key, nth - 1)
  local earlier = redis.call('HMGET', before, 'from', 'count')
  if earlier[1] and at < tonumber(earlier[1]) + width then
    return {late = before, count = tonumber(earlier[2]), left = redis.call('PTTL', before)}
  end
  if from then
    -- Told of in another order than completed: the window begins earlier than it was thought.
    return {late = own, count = count, left = redis.call('PTTL', own), from = at}
  end
  return {late = own, count = 0, left = width, from = at, is_new = true}
end

local function find(window, caller, at)
  local key = window.head .. caller .. window.tail
  local left, age = redis.call('PTTL', key), math.max(0, now - at)
  if left > 0 and age <= window.width - left then
    return {live = key, count = tonumber(redis.call('GET', key)) or 0, left = left}
  end
  if left <= 0 and age < window.width then
    return {live = key, count = 0, left = window.width - age, is_new = true}
  end
  return find_late(key, window.width, at)
end

local function add(counter, width)
  if counter.live then
    if counter.is_new then
      redis.call('SET', counter.live, 1, 'PX', counter.left)
    else
      redis.call('INCR', counter.live)
    end
    return
  end
  redis.call('HINCRBY', counter.late, 'count', 1)
  if counter.from then
    redis.call('HSET', counter.late, 'from', string.format('%d', counter.from))
  end
  if counter.is_new then
    redis.call('PEXPIRE', counter.late, width)
  end
end

local answers = {}
for caller, at, is_flagged, mark in string.gmatch(ARGV[2], '(%S+) (%d+) (%d) (%S+)') do
  local answer = '0 0'
  if redis.call('EXISTS', marks .. mark) == 0 then
    local counters, longest = {}, -1
    for i, window in ipairs(windows) do
      if is_flagged == '1' or not window.is_of_flagged then
        local counter = find(window, caller, tonumber(at))
        counters[i] = counter
        if counter.count >= window.allows and counter.left > longest then
          longest = counter.left
          answer = string.format('%d %d', i, counter.left)
        end
      end
    end
    if longest < 0 then
      for i, counter in pairs(counters) do
        add(counter, windows[i].width)
      end
      redis.call('SET', marks .. mark, 1, 'EX', mark_s)
    end
  end
  answers[#answers + 1] = answer
end
return table.concat(answers, ' ')
