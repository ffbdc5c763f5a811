-- ARGV: id. The record and, while it has not ended, where it stands in the queue: one answer instead of a dozen.
-- Returns {fields and values, now, rank among those handed to RQ, how many, rank among interactive ones, how many, rank
-- among batch ones, how many, interactive jobs since the last batch job, pace in ms, living workers}, or nil.
local id = ARGV[1]
local fields = redis.call('HGETALL', JOB .. id)
if #fields == 0 then return nil end
local state = redis.call('HGET', JOB .. id, 'state')
if state ~= 'queued' and state ~= 'running' then return {fields} end
local at = now()
return {
  fields,
  at,
  redis.call('ZRANK', DISPATCHED, id),
  redis.call('ZCARD', DISPATCHED),
  redis.call('ZRANK', WAITING, id),
  redis.call('ZCARD', WAITING),
  redis.call('ZRANK', WAITING_BATCH, id),
  redis.call('ZCARD', WAITING_BATCH),
  redis.call('HGET', FAIRNESS, 'streak'),
  redis.call('HGET', PACE, 'job_ms'),
  redis.call('ZCOUNT', WORKERS, '(' .. (at - WORKER_SILENCE), '+inf'),
}
