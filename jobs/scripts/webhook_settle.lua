-- ARGV: id, turn, outcome (delivered, pending, failed, disabled), HTTP status or '', error or '', ms to the next try,
-- how long an endpoint that has gone is remembered in seconds.
-- Says how a call went. Returns 1, or 0 for one that was late: its lease was over and it is another's.
local id, key, state = ARGV[1], JOB .. ARGV[1], ARGV[3]
local target, gone = webhook_of(id)
if not target or redis.call('HGET', key, 'webhook_turn') ~= ARGV[2] then return 0 end
if redis.call('HGET', key, 'webhook_state') ~= 'sending' then return 0 end
redis.call('HINCRBY', WEBHOOK_TALLY, state == 'pending' and 'retried' or state, 1)
for i, field in ipairs({'webhook_status', 'webhook_error'}) do
  if ARGV[3 + i] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, ARGV[3 + i]) end
end
if state == 'pending' then
  post(id, target, now() + tonumber(ARGV[6]))
  return 1
end
unpost(id, target, state)
if state == 'delivered' then
  redis.call('DEL', gone)
elseif state == 'disabled' then
  redis.call('SET', gone, 1, 'EX', ARGV[7])
end
return 1
