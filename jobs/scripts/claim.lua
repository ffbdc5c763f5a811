-- ARGV: envelope, id, worker, lease in ms, models that the worker can paint as JSON ('' is all), nonce.
-- queued -> running. Returns the record's fields and values, nil when the job is not queued any more, or 'refused' when
-- the worker cannot paint it, or has failed it and another one can try. A refused job is set aside, for a worker that
-- asks for jobs that were (claim_refused.lua); it keeps its position among the dispatched jobs, and no attempt is charged.
local id, key, worker = ARGV[2], JOB .. ARGV[2], ARGV[3]
local state, nonce = redis.call('HGET', key, 'state'), ARGV[6]
if state == 'running' and token_of(id):sub(-#nonce) == nonce then
  -- The worker repeats a claim whose answer was lost.
  redis.call('ZADD', RUNNING, now() + tonumber(ARGV[4]), id)
  return redis.call('HGETALL', key)
end
if state ~= 'queued' then
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  refill(ARGV[1])
  return nil
end
if not can_paint(ARGV[5] or '', id) or should_leave(id, worker, now()) then
  if redis.call('ZCARD', REFUSED) < MOST_REFUSED or redis.call('ZSCORE', REFUSED, id) then
    redis.call('LREM', RQ_LIST, 0, id)
    redis.call('LREM', RQ_INTERMEDIATE, 0, id)
    redis.call('ZADD', REFUSED, 'NX', now(), id)
    -- Each worker that refuses the job leaves it on RQ's list once, so that one that waits there is woken up.
    local refused_by = cjson.decode(redis.call('HGET', key, 'refused_by') or '[]')
    if not contains(refused_by, worker) then
      refused_by[#refused_by + 1] = worker
      redis.call('HSET', key, 'refused_by', cjson.encode(refused_by))
      dispatch(id, ARGV[1])
    end
    refill(ARGV[1])
  else
    dispatch(id, ARGV[1])  -- to the end of the list; the rest of the queue keeps its order
  end
  return 'refused'
end
local record = start(id, worker, ARGV[4], nonce)
refill(ARGV[1])
return record
