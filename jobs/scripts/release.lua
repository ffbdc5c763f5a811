-- ARGV: envelope, id, token, retention in ms, most attempts, '1' to give the attempt back, error of the last attempt.
-- running -> queued after a fault or a drain; -> failed when the attempts are used up; -> canceled when that was asked.
-- Returns the state that the attempt left the job in, the same when it is asked again, or nil for a late attempt.
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
feed(ARGV[1])
return 'queued'
