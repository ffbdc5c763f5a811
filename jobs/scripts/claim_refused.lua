-- ARGV: worker, lease in ms, models that the worker can paint as JSON ('' is all), nonce.
-- queued -> running, of the job that was refused the longest time ago and that this worker can paint, unless it failed it
-- and another one can try.
-- Returns {id, the record's fields and values}, or nil when there is none.
local at = now()
for _, id in ipairs(redis.call('ZRANGE', REFUSED, 0, -1)) do
  if redis.call('HGET', JOB .. id, 'state') ~= 'queued' then
    redis.call('ZREM', REFUSED, id)
  elseif can_paint(ARGV[3], id) and not should_leave(id, ARGV[1], at) then
    return {id, start(id, ARGV[1], ARGV[2], ARGV[4])}
  end
end
return nil
