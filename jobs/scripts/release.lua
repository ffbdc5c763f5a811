-- ARGV: envelope, id, token, retention in ms, budget of faults, whose fault it was (job, worker, dependency; '' gives the
-- attempt back), worker, error of this attempt.
-- running -> queued after a fault or a shutdown; -> failed when the budget is used up; -> canceled when requested.
-- Returns the state in which the attempt left the job, also when the call is repeated, or nil for a late attempt.
local id, key, retention, blame = ARGV[2], JOB .. ARGV[2], tonumber(ARGV[4]), ARGV[6]
local owned, left = owns(id, ARGV[3])
if not owned then return left end
local used_up = false
if blame == '' then
  redis.call('HINCRBY', key, 'attempt', -1)
else
  used_up = charge(id, blame, ARGV[7], tonumber(ARGV[5]), now())
end
if redis.call('HEXISTS', key, 'cancel') == 1 then
  finish(id, 'canceled', retention, {})
  return 'canceled'
end
if used_up then
  finish(id, 'failed', retention, {'error', ARGV[8]})
  return 'failed'
end
requeue(id)
refill(ARGV[1])
return 'queued'
