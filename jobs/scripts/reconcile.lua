-- ARGV: envelope, retention in ms, most attempts, grace of a hand-over in ms, error of a job whose attempts are used up.
-- Puts back what runs under an expired lease and what RQ lost between its list and a claim. Safe at any number at once.
-- Returns {rescued leases, repeated hand-overs}.
local at, retention = now(), tonumber(ARGV[2])
local expired = redis.call('ZRANGEBYSCORE', RUNNING, '-inf', at, 'LIMIT', 0, 100)
for _, id in ipairs(expired) do
  local key = JOB .. id
  if redis.call('HGET', key, 'state') ~= 'running' then
    redis.call('ZREM', RUNNING, id)
  elseif redis.call('HEXISTS', key, 'cancel') == 1 then
    finish(id, 'canceled', retention, {})
  elseif tonumber(redis.call('HGET', key, 'attempt')) >= tonumber(ARGV[3]) then
    finish(id, 'failed', retention, {'error', ARGV[5]})
  else
    requeue(id)
  end
end
local lost = 0
local listed = {}
for _, id in ipairs(redis.call('LRANGE', RQ_LIST, 0, -1)) do listed[id] = true end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DISPATCHED, '-inf', at - tonumber(ARGV[4]), 'LIMIT', 0, 100)) do
  if not listed[id] then
    lost = lost + 1
    push(id, ARGV[1])
  end
end
feed(ARGV[1])
return {#expired, lost}
