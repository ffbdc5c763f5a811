-- Shared by every transition, before observe.lua: the webhook calls that are to be made.
-- Each target (an owner and a host) has its own list of calls, and another list has the targets by their earliest call.
-- So a target with thousands of calls does not delay those of others.

-- A job's target, and the key that exists while its endpoint counts as gone (410). nil when the job has no webhook.
local function webhook_of(id)
  local current = redis.call('HMGET', JOB .. id, 'owner', 'webhook_url')
  if not current[2] then return nil end
  local owner = (current[1] or '') .. '|'
  return owner .. current[2]:match('^%a+://[^/?#]+'), WEBHOOK_GONE .. redis.sha1hex(owner .. current[2])
end

-- Change the number of pending calls. Lua writes -0 as '-0', which Redis 7.0 refuses as a number in the middle of a script.
local function count_pending(change)
  if change ~= 0 then redis.call('HINCRBY', WEBHOOK_TALLY, 'pending', change) end
end

-- Update a target's due time to that of its earliest call.
local function update_target(target)
  local first = redis.call('ZRANGE', OUTBOX .. target, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', OUTBOX_TARGETS, first[2], target) else redis.call('ZREM', OUTBOX_TARGETS, target) end
end

-- Schedule a job's call for `due`, or reschedule it.
local function schedule_call(id, target, due)
  redis.call('HSET', JOB .. id, 'webhook_state', 'pending', 'webhook_next', due)
  count_pending(redis.call('ZADD', OUTBOX .. target, due, id))
  update_target(target)
end

-- Remove a job's call; `state` says why.
local function remove_call(id, target, state)
  redis.call('HSET', JOB .. id, 'webhook_state', state)
  redis.call('HDEL', JOB .. id, 'webhook_next')
  count_pending(-redis.call('ZREM', OUTBOX .. target, id))
  update_target(target)
end

-- The job has ended: schedule its webhook call, unless its endpoint is gone.
local function schedule_webhook(id, at)
  local target, gone = webhook_of(id)
  if not target then return end
  if redis.call('EXISTS', gone) == 1 then
    remove_call(id, target, 'disabled')
  else
    schedule_call(id, target, at)
  end
end

-- The job's record expires: its call is not made any more.
local function expire_webhook(id)
  local target = webhook_of(id)
  if target then remove_call(id, target, 'expired') end
end
