-- ARGV: envelope, id, retention in ms.
-- queued -> canceled at once. A running job is marked, and its attempt ends it. Returns the state before, or nil.
local id = ARGV[2]
local state = redis.call('HGET', JOB .. id, 'state')
if state == 'queued' then
  close_gap(id)
  unqueue(id)
  finish(id, 'canceled', tonumber(ARGV[3]), {})
  refill(ARGV[1])
elseif state == 'running' then
  redis.call('HSET', JOB .. id, 'cancel', 1)
end
return state
