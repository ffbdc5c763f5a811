-- ARGV: envelope, id, worker, lease in ms.
-- queued -> running. Returns the record's fields and values, or nil when the job is not queued any more.
local id, key = ARGV[2], JOB .. ARGV[2]
local current = redis.call('HMGET', key, 'state', 'worker')
if current[1] == 'running' and current[2] == ARGV[3] then
  -- The worker repeats a claim whose answer was lost; it knows which of its jobs it has already started.
  redis.call('ZADD', RUNNING, now() + tonumber(ARGV[4]), id)
  return redis.call('HGETALL', key)
end
if current[1] ~= 'queued' then
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  refill(ARGV[1])
  return nil
end
unqueue(id)
redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HINCRBY', key, 'token', 1)
enter_state(id, 'running')
redis.call('HDEL', key, 'denoising_at', 'stepped_at')
redis.call('HSET', key, 'started_at', now(), 'worker', ARGV[3], 'step', 0, 'phase', 'starting')
redis.call('ZADD', RUNNING, now() + tonumber(ARGV[4]), id)
refill(ARGV[1])
return redis.call('HGETALL', key)
