-- Shared by every transition, before prelude.lua: the indices, event streams and totals that follow a job's state.

-- Add an event to a job's stream. The stream is short, and expires some time after the job has ended.
local function publish(id, kind, ...)
  redis.call('XADD', EVENTS .. id, 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, ...)
end

local ENDED = {succeeded = true, failed = true, canceled = true}

-- Add a job to a list, and move it to that list's part for its state. `before` is false when the job is new.
local function move_in_list(list, id, sequence, before, state)
  if before then redis.call('ZREM', list .. ':' .. before, id) end
  redis.call('ZADD', list, sequence, id)
  redis.call('ZADD', list .. ':' .. state, sequence, id)
end

-- List a job under its owner and its batch. An expired job stays listed under its batch only, for the batch's counts.
local function index_job(id, before, state)
  local current = redis.call('HMGET', JOB .. id, 'owner', 'batch', 'sequence')
  local own = INDEX .. (current[1] or '')
  move_in_list(own, id, current[3], before, state)
  if current[2] then move_in_list(BATCH_JOBS .. current[2], id, current[3], before, state) end
  if state == 'expired' then
    redis.call('ZREM', own, id)
    redis.call('ZREM', own .. ':expired', id)
  end
end

-- Change a job's state. No other code does; indices, events and totals are updated in the same step.
local function enter_state(id, state)
  local before = redis.call('HGET', JOB .. id, 'state')
  index_job(id, before, state)
  redis.call('HSET', JOB .. id, 'state', state)
  publish(id, 'job', 'state', state)
  if ENDED[state] then
    redis.call('EXPIRE', EVENTS .. id, EVENTS_TTL)
    redis.call('HINCRBY', TALLY, state, 1)
  end
end

-- What stays of an expired job.
local KEPT = {
  'state', 'owner', 'priority', 'batch', 'batch_index', 'sequence', 'fingerprint', 'attempt', 'token', 'step', 'total_steps',
  'created_at', 'started_at', 'finished_at', 'expires_at', 'webhook_state',
}

-- terminal -> expired. What is in KEPT stays for `seconds` as a tombstone (410).
local function expire_record(id, seconds)
  local key = JOB .. id
  redis.call('ZREM', FINISHED, id)
  expire_webhook(id)
  enter_state(id, 'expired')
  local freed = redis.call('HMGET', key, 'owner', 'size')
  if freed[2] and redis.call('HINCRBY', OWNER_BYTES, freed[1], -freed[2]) <= 0 then
    redis.call('HDEL', OWNER_BYTES, freed[1])
  end
  -- A new hash: one that has held a long value takes several times the memory for good.
  local kept, fields = redis.call('HMGET', key, unpack(KEPT)), {'phase', 'expired'}
  for i, name in ipairs(KEPT) do
    if kept[i] then
      fields[#fields + 1] = name
      fields[#fields + 1] = kept[i]
    end
  end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(fields))
  redis.call('EXPIRE', key, seconds)
  redis.call('EXPIRE', EVENTS .. id, EVENTS_TTL)
  local latest = redis.call('GET', PREVIEW .. id .. ':latest')
  redis.call('DEL', PREVIEW .. id, PREVIEW .. id .. ':latest', PREVIEW .. id .. ':' .. (latest or ''))
  local batch = redis.call('HGET', key, 'batch')
  if batch then
    for _, list in ipairs({BATCH .. batch, BATCH_JOBS .. batch, BATCH_JOBS .. batch .. ':expired'}) do
      redis.call('EXPIRE', list, seconds)
    end
  end
end
