-- Shared by every transition. Key names, WINDOW and SHARE are set above by jobs/scripts/__init__.py.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The waiting jobs of a priority. A record without one is from before there were priorities.
local function waiting(priority)
  return priority == 'batch' and WAITING_BATCH or WAITING
end

local function push(id, envelope)
  local key = RQ_JOB .. id
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(cjson.decode(envelope)))
  redis.call('LREM', RQ_LIST, 0, id)
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  redis.call('RPUSH', RQ_LIST, id)
  redis.call('ZADD', DISPATCHED, now(), id)
end

-- The next waiting job in turn, or nil: after SHARE interactive ones a batch one, where both wait.
local function take()
  local streak = tonumber(redis.call('HGET', FAIRNESS, 'streak') or 0)
  local interactive_waits = redis.call('EXISTS', WAITING) == 1
  local batch_waits = redis.call('EXISTS', WAITING_BATCH) == 1
  local priority = 'interactive'
  if batch_waits and (streak >= SHARE or not interactive_waits) then
    priority = 'batch'
    redis.call('HSET', FAIRNESS, 'streak', 0)
  elseif batch_waits then
    redis.call('HSET', FAIRNESS, 'streak', streak + 1)
  end
  local first = redis.call('ZPOPMIN', waiting(priority))
  if #first == 0 then return nil end
  local round = math.floor(tonumber(first[2]))
  if round > tonumber(redis.call('HGET', FAIRNESS, priority) or 0) then
    redis.call('HSET', FAIRNESS, priority, round)
  end
  return first[1]
end

-- Hand waiting jobs to RQ until its list holds WINDOW of them.
local function feed(envelope)
  local room = WINDOW - redis.call('LLEN', RQ_LIST)
  for _ = 1, room do
    local id = take()
    if not id then break end
    push(id, envelope)
  end
end

-- Take a job off whatever part of the queue it is on.
local function unqueue(id)
  redis.call('ZREM', WAITING, id)
  redis.call('ZREM', WAITING_BATCH, id)
  redis.call('ZREM', DISPATCHED, id)
  redis.call('LREM', RQ_LIST, 0, id)
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  redis.call('DEL', RQ_JOB .. id)
end

-- Enter a terminal state. `fields` is a flat list of what else to record.
local function finish(id, state, retention, fields)
  local at = now()
  redis.call('ZREM', RUNNING, id)
  redis.call('HDEL', JOB .. id, 'cancel', 'worker')
  enter(id, state)
  redis.call('HSET', JOB .. id, 'finished_at', at, 'expires_at', at + retention, unpack(fields))
  redis.call('ZADD', FINISHED, at + retention, id)
  announce(id, at)
end

-- Back into the queue, at the place it had.
local function requeue(id)
  local key = JOB .. id
  local kept = redis.call('HMGET', key, 'priority', 'place', 'sequence')
  redis.call('ZREM', RUNNING, id)
  redis.call('HDEL', key, 'worker')
  enter(id, 'queued')
  redis.call('HSET', key, 'step', 0, 'phase', 'queued')
  redis.call('ZADD', waiting(kept[1]), kept[2] or kept[3], id)
end

-- Whether the attempt that holds `token` still owns the job; second, the job's state if no later attempt has begun.
local function owns(id, token)
  local held = redis.call('HMGET', JOB .. id, 'state', 'token')
  if held[2] ~= token then return false, nil end
  return held[1] == 'running', held[1]
end

-- The record and, while it has not ended, where it stands in the queue.
-- Returns {fields and values, now, rank among those handed to RQ, how many, rank among interactive ones, how many, rank
-- among batch ones, how many, interactive jobs since the last batch job, pace in ms, living workers}, or nil.
local function look(id)
  local fields = redis.call('HGETALL', JOB .. id)
  if #fields == 0 then return nil end
  local state = redis.call('HGET', JOB .. id, 'state')
  if state ~= 'queued' and state ~= 'running' then return {fields} end
  local at = now()
  return {
    fields,
    at,
    redis.call('ZRANK', DISPATCHED, id),
    redis.call('ZCARD', DISPATCHED),
    redis.call('ZRANK', WAITING, id),
    redis.call('ZCARD', WAITING),
    redis.call('ZRANK', WAITING_BATCH, id),
    redis.call('ZCARD', WAITING_BATCH),
    redis.call('HGET', FAIRNESS, 'streak'),
    redis.call('HGET', PACE, 'job_ms'),
    redis.call('ZCOUNT', WORKERS, '(' .. (at - WORKER_SILENCE), '+inf'),
  }
end
