-- Shared by every transition, before prelude.lua: what others look a job up by, and are told of it.

-- Tell whoever listens to a job. The stream is short and ends its own life once the job has ended.
local function publish(id, kind, ...)
  redis.call('XADD', EVENTS .. id, 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, ...)
end

local ENDED = {succeeded = true, failed = true, canceled = true}

-- Move a job in one list of jobs and its parts by state (`before` is false when the job is new).
local function relist(list, id, sequence, before, state)
  if before then redis.call('ZREM', list .. ':' .. before, id) end
  redis.call('ZADD', list, sequence, id)
  redis.call('ZADD', list .. ':' .. state, sequence, id)
end

-- List a job under its owner and its batch. An expired one stays in the counts of its batch alone.
local function index(id, before, state)
  local held = redis.call('HMGET', JOB .. id, 'owner', 'batch', 'sequence')
  local own = INDEX .. (held[1] or '')
  relist(own, id, held[3], before, state)
  if held[2] then relist(BATCH_JOBS .. held[2], id, held[3], before, state) end
  if state == 'expired' then
    redis.call('ZREM', own, id)
    redis.call('ZREM', own .. ':expired', id)
  end
end

-- The one way from state to state: indices, listeners and tallies follow in the same step.
local function enter(id, state)
  local before = redis.call('HGET', JOB .. id, 'state')
  index(id, before, state)
  redis.call('HSET', JOB .. id, 'state', state)
  publish(id, 'job', 'state', state)
  if ENDED[state] then
    redis.call('EXPIRE', EVENTS .. id, EVENTS_TTL)
    redis.call('HINCRBY', TALLY, state, 1)
  end
end

-- terminal -> expired. What the user gave goes; the record stays for `seconds` as the tombstone behind a 410.
local function bury(id, seconds)
  local key = JOB .. id
  redis.call('ZREM', FINISHED, id)
  forget_webhook(id)
  redis.call('HDEL', key, 'input', 'metadata', 'result', 'error', 'timings', 'notices', 'webhook_url')
  enter(id, 'expired')
  redis.call('HSET', key, 'phase', 'expired')
  redis.call('EXPIRE', key, seconds)
  redis.call('EXPIRE', EVENTS .. id, EVENTS_TTL)
  redis.call('DEL', PREVIEW .. id)
  local batch = redis.call('HGET', key, 'batch')
  if batch then
    for _, list in ipairs({BATCH .. batch, BATCH_JOBS .. batch, BATCH_JOBS .. batch .. ':expired'}) do
      redis.call('EXPIRE', list, seconds)
    end
  end
end
