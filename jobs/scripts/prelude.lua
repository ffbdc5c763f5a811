-- Shared by every transition. jobs/scripts/__init__.py defines the constants in capitals.

-- The key of the waiting jobs of a priority. Records from before there were priorities have none.
local function waiting_key(priority)
  return priority == 'batch' and WAITING_BATCH or WAITING
end

-- Hand a job to RQ.
local function dispatch(id, envelope)
  local key = RQ_JOB .. id
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(cjson.decode(envelope)))
  redis.call('LREM', RQ_LIST, 0, id)
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  redis.call('RPUSH', RQ_LIST, id)
  redis.call('ZADD', DISPATCHED, now(), id)
end

-- Remove and return the next waiting job, or nil. While jobs of both priorities wait, SHARE interactive ones go before
-- each batch job.
local function pop_next()
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
  local first = redis.call('ZPOPMIN', waiting_key(priority))
  if #first == 0 then return nil end
  local round = math.floor(tonumber(first[2]))
  if round > tonumber(redis.call('HGET', FAIRNESS, priority) or 0) then
    redis.call('HSET', FAIRNESS, priority, round)
  end
  return first[1]
end

-- Hand waiting jobs to RQ until its list holds WINDOW of them.
local function refill(envelope)
  local room = WINDOW - redis.call('LLEN', RQ_LIST)
  for _ = 1, room do
    local id = pop_next()
    if not id then break end
    dispatch(id, envelope)
  end
end

-- Whether only the part of Redis's memory is left that is reserved for accepted jobs: RQ's own commands fail once the limit
-- is reached.
local function memory_is_short()
  local memory = redis.call('INFO', 'memory')
  local most, used = tonumber(memory:match('maxmemory:(%d+)')), tonumber(memory:match('used_memory:(%d+)'))
  return most and most > 0 and used > most * MEMORY_FOR_SUBMITS
end

-- The place of a waiting job of this priority, else nil.
local function place_of(id, priority)
  local current = redis.call('HMGET', JOB .. id, 'priority', 'place')
  return current[1] == priority and redis.call('ZSCORE', waiting_key(priority), id) and current[2] or nil
end

-- Remove a waiting job that will not be run. Those of its owner that follow move up, each to the place of the one before,
-- so that nobody waits behind canceled work. At most MOST_MOVED of them do, which bounds the time that this takes.
local function close_gap(id)
  local current = redis.call('HMGET', JOB .. id, 'owner', 'priority', 'place', 'sequence')
  local owner, priority, free = current[1] or '', current[2] or 'interactive', current[3]
  local waiting = waiting_key(priority)
  if redis.call('ZREM', waiting, id) == 0 or not free then return end
  local followers = redis.call('ZRANGEBYSCORE', INDEX .. owner .. ':queued', '(' .. current[4], '+inf', 'LIMIT', 0, MOST_MOVED)
  local last  -- the place of the owner's last waiting job
  for _, follower in ipairs(followers) do
    local place = place_of(follower, priority)
    if place then
      redis.call('ZADD', waiting, free, follower)
      redis.call('HSET', JOB .. follower, 'place', free)
      last, free = free, place
    end
  end
  if #followers == MOST_MOVED then return end
  local before = redis.call('ZREVRANGEBYSCORE', INDEX .. owner .. ':queued', '(' .. current[4], '-inf', 'LIMIT', 0, 10)
  for _, job in ipairs(before) do last = last or place_of(job, priority) end
  -- Ten jobs before it may all be of the other priority.
  last = math.floor(tonumber(last or (#before == 10 and free - 1 or 0)))
  local turn = priority .. ':' .. owner
  if last < tonumber(redis.call('HGET', FAIRNESS, turn) or 0) then redis.call('HSET', FAIRNESS, turn, last) end
end

-- Remove a job from whichever part of the queue it is in.
local function unqueue(id)
  redis.call('ZREM', WAITING, id)
  redis.call('ZREM', WAITING_BATCH, id)
  redis.call('ZREM', DISPATCHED, id)
  redis.call('ZREM', REFUSED, id)
  redis.call('LREM', RQ_LIST, 0, id)
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  redis.call('DEL', RQ_JOB .. id)
end

-- Enter a terminal state. `fields` is a flat list of further fields and values of the record.
local function finish(id, state, retention, fields)
  local at = now()
  redis.call('ZREM', RUNNING, id)
  redis.call('HDEL', JOB .. id, 'cancel', 'worker')
  enter_state(id, state)
  redis.call('HSET', JOB .. id, 'finished_at', at, 'expires_at', at + retention, unpack(fields))
  redis.call('ZADD', FINISHED, at + retention, id)
  schedule_webhook(id, at)
end

-- Put a running job back into the queue, at the position it had.
local function requeue(id)
  local key = JOB .. id
  local kept = redis.call('HMGET', key, 'priority', 'place', 'sequence')
  redis.call('ZREM', RUNNING, id)
  redis.call('HDEL', key, 'worker')
  enter_state(id, 'queued')
  redis.call('HSET', key, 'step', 0, 'phase', 'queued')
  redis.call('ZADD', waiting_key(kept[1]), kept[2] or kept[3], id)
end

-- The token of a job's latest attempt: its number and the claim's random nonce. The number alone would come again when
-- the server loses its last writes. A claim by an earlier version has the number only, and leaves an older fence behind.
local function token_of(id)
  local current = redis.call('HMGET', JOB .. id, 'token', 'fence')
  local fence = current[2]
  return fence and fence:match('^%d+') == current[1] and fence or current[1]
end

-- Whether the attempt with this token still owns the job. Second, the job's state, unless a later attempt has started.
local function owns(id, token)
  if token_of(id) ~= token then return false, nil end
  local state = redis.call('HGET', JOB .. id, 'state')
  return state == 'running', state
end

-- A job's record and, until it has ended, its position in the queue.
-- Returns nil for an unknown job, else {fields and values, now, rank among the dispatched jobs, their number, rank
-- among the waiting interactive jobs, their number, rank among the waiting batch jobs, their number, interactive jobs
-- since the last batch job, average ms per job, living workers}. For an ended job, only the first of these.
local function snapshot(id)
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
