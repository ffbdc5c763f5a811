-- ARGV: envelope, id, worker, lease in ms.
-- queued -> running. Returns the record's fields and values, or nil when the job is not there to be claimed.
local id, key = ARGV[2], JOB .. ARGV[2]
local held = redis.call('HMGET', key, 'state', 'worker')
if held[1] == 'running' and held[2] == ARGV[3] then
  -- The client's own repetition of a claim whose answer was lost: a worker knows which jobs it is at.
  redis.call('ZADD', RUNNING, now() + tonumber(ARGV[4]), id)
  return redis.call('HGETALL', key)
end
if held[1] ~= 'queued' then
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  feed(ARGV[1])
  return nil
end
unqueue(id)
redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HINCRBY', key, 'token', 1)
enter(id, 'running')
redis.call('HDEL', key, 'denoising_at', 'stepped_at')
redis.call('HSET', key, 'started_at', now(), 'worker', ARGV[3], 'step', 0, 'phase', 'starting')
redis.call('ZADD', RUNNING, now() + tonumber(ARGV[4]), id)
feed(ARGV[1])
return redis.call('HGETALL', key)
