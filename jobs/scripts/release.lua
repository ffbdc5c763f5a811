-- ARGV: envelope, id, token, retention in ms, maximum attempts, '1' to give the attempt back, error of this attempt.
-- running -> queued after a fault or a shutdown; -> failed when the attempts are used up; -> canceled when requested.
-- Returns the state in which the attempt left the job, also when the call is repeated, or nil for a late attempt.
local id, key, retention = ARGV[2], JOB .. ARGV[2], tonumber(ARGV[4])
local owned, left = owns(id, ARGV[3])
if not owned then return left end
if ARGV[6] == '1' then redis.call('HINCRBY', key, 'attempt', -1) end
if redis.call('HEXISTS', key, 'cancel') == 1 then
  finish(id, 'canceled', retention, {})
  return 'canceled'
end
if tonumber(redis.call('HGET', key, 'attempt')) >= tonumber(ARGV[5]) then
  finish(id, 'failed', retention, {'error', ARGV[7]})
  return 'failed'
end
requeue(id)
refill(ARGV[1])
return 'queued'
