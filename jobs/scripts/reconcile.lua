-- ARGV: envelope, retention in ms, budget of workers' faults, ms after which an unclaimed dispatch counts as lost, error of a
-- job whose attempts are used up, ms after which a job that no living worker can paint fails,
-- its error without the detail.
-- Puts back running jobs with an expired lease, and dispatches again jobs that RQ lost before their claim.
-- Any number of workers may call it at once. Returns {expired leases, repeated dispatches}.
local at, retention = now(), tonumber(ARGV[2])
local expired = redis.call('ZRANGEBYSCORE', RUNNING, '-inf', at, 'LIMIT', 0, 100)
for _, id in ipairs(expired) do
  local key = JOB .. id
  if redis.call('HGET', key, 'state') ~= 'running' then
    redis.call('ZREM', RUNNING, id)
  elseif redis.call('HEXISTS', key, 'cancel') == 1 then
    finish(id, 'canceled', retention, {})
  elseif charge(id, 'worker', redis.call('HGET', key, 'worker'), tonumber(ARGV[3]), at) then
    finish(id, 'failed', retention, {'error', ARGV[5]})
  else
    requeue(id)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', REFUSED, '-inf', at - tonumber(ARGV[6]))) do
  local possible, reason = anyone_can_paint(id, at)
  if redis.call('HGET', JOB .. id, 'state') ~= 'queued' then
    redis.call('ZREM', REFUSED, id)
  elseif not possible then
    unqueue(id)
    local error = cjson.decode(ARGV[7])
    error.detail = reason
    finish(id, 'failed', retention, {'error', cjson.encode(error)})
  end
end
local lost = 0
local listed = {}
for _, id in ipairs(redis.call('LRANGE', RQ_LIST, 0, -1)) do listed[id] = true end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DISPATCHED, '-inf', at - tonumber(ARGV[4]), 'LIMIT', 0, 100)) do
  if not listed[id] and not redis.call('ZSCORE', REFUSED, id) then
    lost = lost + 1
    dispatch(id, ARGV[1])
  end
end
refill(ARGV[1])
return {#expired, lost}
