-- Shared by every transition. Key names and WINDOW are set above by jobs/scripts/__init__.py.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
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

-- Hand waiting jobs to RQ until its list holds WINDOW of them.
local function feed(envelope)
  local room = WINDOW - redis.call('LLEN', RQ_LIST)
  for _ = 1, room do
    local first = redis.call('ZPOPMIN', WAITING)
    if #first == 0 then break end
    push(first[1], envelope)
  end
end

-- Take a job off whatever part of the queue it is on.
local function unqueue(id)
  redis.call('ZREM', WAITING, id)
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
end

-- Back into the queue, at the place it had.
local function requeue(id)
  local key = JOB .. id
  redis.call('ZREM', RUNNING, id)
  redis.call('HDEL', key, 'worker')
  enter(id, 'queued')
  redis.call('HSET', key, 'step', 0, 'phase', 'queued')
  redis.call('ZADD', WAITING, redis.call('HGET', key, 'sequence'), id)
end

-- Whether the attempt that holds `token` still owns the job.
local function owns(id, token)
  local held = redis.call('HMGET', JOB .. id, 'state', 'token')
  return held[1] == 'running' and held[2] == token
end
