-- ARGV: id.
-- Schedules an ended job's webhook call again, at once and with all attempts, even if its endpoint counts as gone.
-- Returns the state of the call, or nil when the job has not ended or has no webhook.
local id, key = ARGV[1], JOB .. ARGV[1]
local target = webhook_of(id)
local current = redis.call('HMGET', key, 'state', 'webhook_state')
if not target or not ENDED[current[1]] then return nil end
if current[2] == 'sending' then return current[2] end
redis.call('HSET', key, 'webhook_attempts', 0, 'webhook_insisted', 1)
schedule_call(id, target, now())
return 'pending'
