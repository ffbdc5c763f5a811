-- Shared by every transition, first of all: the time. No other code reads the server's clock.

-- Milliseconds since the epoch.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Note the time. If it is not soon after it was last noted, nobody can say which leases have expired: the clock was set,
-- or the server was away, or was set back to an older state, or no process was there to renew them. Then each running job
-- gets a whole lease from now. Second, whether a whole lease has passed since that last happened.
local function tick(lease)
  local at = now()
  local noted = redis.call('HMGET', CLOCK, 'seen', 'jumped')
  local seen, jumped = tonumber(noted[1] or at), tonumber(noted[2] or 0)
  if at < seen - CLOCK_SLACK or at - seen > math.max(lease * LONGEST_GAP, CLOCK_SLACK) then
    jumped = at
    redis.call('HSET', CLOCK, 'jumped', at)
    for _, id in ipairs(redis.call('ZRANGE', RUNNING, 0, -1)) do redis.call('ZADD', RUNNING, at + lease, id) end
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', DISPATCHED, '(' .. at, '+inf')) do
      redis.call('ZADD', DISPATCHED, at, id)
    end
  end
  -- Thousands of workers need not all write it.
  if at < seen or at - seen >= NOTED_MS or not noted[1] then redis.call('HSET', CLOCK, 'seen', at) end
  return at, at - jumped >= lease
end
