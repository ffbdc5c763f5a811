-- ARGV: id, token, state (succeeded, failed, canceled), retention in ms, then fields and values.
-- running -> terminal, if the attempt still owns the job. A cancel that was acknowledged before takes precedence.
-- Returns the state in which the attempt left the job, also when the call is repeated, or nil for a late attempt.
local id, state = ARGV[1], ARGV[3]
local owned, left = owns(id, ARGV[2])
if not owned then return left end
local fields = {unpack(ARGV, 5)}
if redis.call('HEXISTS', JOB .. id, 'cancel') == 1 then
  state, fields = 'canceled', {}
end
local started = redis.call('HGET', JOB .. id, 'started_at')
finish(id, state, tonumber(ARGV[4]), fields)
if state == 'succeeded' then
  local took, before = now() - started, redis.call('HGET', PACE, 'job_ms')
  redis.call('HSET', PACE, 'job_ms', before and math.floor(before * 0.8 + took * 0.2) or took)
end
return state
