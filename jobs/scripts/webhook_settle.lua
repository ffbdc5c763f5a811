-- ARGV: id, turn, outcome (delivered, pending, failed, disabled), HTTP status or '', error or '', ms until the next
-- attempt, seconds for which an endpoint counts as gone.
-- Records the outcome of a call. Returns 1, or 0 when its lease had expired and another sender has taken it.
local id, key, state = ARGV[1], JOB .. ARGV[1], ARGV[3]
local target, gone = webhook_of(id)
if not target or redis.call('HGET', key, 'webhook_turn') ~= ARGV[2] then return 0 end
if redis.call('HGET', key, 'webhook_state') ~= 'sending' then return 0 end
redis.call('HINCRBY', WEBHOOK_TALLY, state == 'pending' and 'retried' or state, 1)
for i, field in ipairs({'webhook_status', 'webhook_error'}) do
  if ARGV[3 + i] == '' then redis.call('HDEL', key, field) else redis.call('HSET', key, field, ARGV[3 + i]) end
end
if state == 'pending' then
  schedule_call(id, target, now() + tonumber(ARGV[6]))
  return 1
end
remove_call(id, target, state)
if state == 'delivered' then
  redis.call('DEL', gone)
elseif state == 'disabled' then
  redis.call('SET', gone, 1, 'EX', ARGV[7])
end
return 1
