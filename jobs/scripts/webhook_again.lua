-- ARGV: id.
-- Has an ended job's webhook called again at once, with all its attempts, even one whose endpoint has gone.
-- Returns the state of the call, or nil when there is none to make.
local id, key = ARGV[1], JOB .. ARGV[1]
local target = webhook_of(id)
local held = redis.call('HMGET', key, 'state', 'webhook_state')
if not target or not ENDED[held[1]] then return nil end
if held[2] == 'sending' then return held[2] end
redis.call('HSET', key, 'webhook_attempts', 0, 'webhook_insisted', 1)
post(id, target, now())
return 'pending'
