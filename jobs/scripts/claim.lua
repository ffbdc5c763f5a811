-- claim
-- ARGV: envelope, id, worker, lease in ms, models that the worker can paint as JSON ('' is all).
-- queued -> running. Returns the record's fields and values, nil when the job is not queued any more, or 'refused' when
-- the worker cannot paint it. A refused job is set aside, for a worker that asks for jobs that were (claim_refused.lua);
-- it keeps its position among the dispatched jobs, and no attempt is charged.
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
if not can_paint(ARGV[5] or '', id) then
  if redis.call('ZCARD', REFUSED) < MOST_REFUSED then
    redis.call('LREM', RQ_LIST, 0, id)
    redis.call('LREM', RQ_INTERMEDIATE, 0, id)
    redis.call('ZADD', REFUSED, 'NX', now(), id)
    refill(ARGV[1])
  else
    dispatch(id, ARGV[1])  -- to the end of the list; the rest of the queue keeps its order
  end
  return 'refused'
end
local record = start(id, ARGV[3], ARGV[4])
refill(ARGV[1])
return record
