-- Shared by every transition, before observe.lua: the calls of webhooks that wait to be made.
-- The calls of a target (an owner's host) lie in a list of its own, and the targets in another by their earliest call:
-- a target with thousands of calls stands in nobody's way.

-- A job's target and the mark of an endpoint that answered 410; nil where the job calls nobody.
local function webhook_of(id)
  local held = redis.call('HMGET', JOB .. id, 'owner', 'webhook_url')
  if not held[2] then return nil end
  local owner = (held[1] or '') .. '|'
  return owner .. held[2]:match('^%a+://[^/?#]+'), WEBHOOK_GONE .. redis.sha1hex(owner .. held[2])
end

-- Put a target where its earliest call belongs.
local function aim(target)
  local first = redis.call('ZRANGE', OUTBOX .. target, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', OUTBOX_TARGETS, first[2], target) else redis.call('ZREM', OUTBOX_TARGETS, target) end
end

-- Have a call made at `due`, whether it is one that waits already or not.
local function post(id, target, due)
  redis.call('HSET', JOB .. id, 'webhook_state', 'pending', 'webhook_next', due)
  redis.call('HINCRBY', WEBHOOK_TALLY, 'pending', redis.call('ZADD', OUTBOX .. target, due, id))
  aim(target)
end

-- Have no further call made; `state` says why.
local function unpost(id, target, state)
  redis.call('HSET', JOB .. id, 'webhook_state', state)
  redis.call('HDEL', JOB .. id, 'webhook_next')
  redis.call('HINCRBY', WEBHOOK_TALLY, 'pending', -redis.call('ZREM', OUTBOX .. target, id))
  aim(target)
end

-- The job has ended: its webhook is called, unless its endpoint has gone.
local function announce(id, at)
  local target, gone = webhook_of(id)
  if not target then return end
  if redis.call('EXISTS', gone) == 1 then unpost(id, target, 'disabled') else post(id, target, at) end
end

-- The job's record goes: nobody is told of it any more.
local function forget_webhook(id)
  local target = webhook_of(id)
  if target then unpost(id, target, 'expired') end
end
