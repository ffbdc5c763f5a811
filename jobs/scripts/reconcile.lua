-- ARGV: envelope, retention in ms, budget of workers' faults, ms after which an unclaimed dispatch counts as lost, error of a
-- job whose attempts are used up, ms after which a job that no living worker can paint fails, its error without the
-- detail, lease in ms, process that asks or '', ms for which it keeps the turn, '1' if it is a worker, its entry or ''.
-- Notes a worker's heartbeat. Then, if it is this process's turn or none was given: puts back running jobs with an expired
-- lease, and dispatches again jobs that RQ lost before their claim.
-- Any number of processes may call it at once. Returns {whether it had the turn, expired leases, repeated dispatches,
-- jobs that run or are dispatched}.
local retention, process = tonumber(ARGV[2]), ARGV[9]
local at, steady = tick(tonumber(ARGV[8]))
if ARGV[11] == '1' then beat(process, ARGV[12], at) end
if process ~= '' and not take_turn(RECONCILER, process, ARGV[10]) then return {0, 0, 0, 0} end
forget_dead_workers(at)

local function put_back(id)
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

local function fail_if_nobody_can_paint(id)
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

local expired = redis.call('ZRANGEBYSCORE', RUNNING, '-inf', at, 'LIMIT', 0, 100)
for _, id in ipairs(expired) do put_back(id) end
-- Without a living worker jobs wait. Soon after a jump of the clock nobody can say which workers live.
if steady and redis.call('ZCOUNT', WORKERS, at - WORKER_SILENCE, '+inf') > 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', REFUSED, '-inf', at - tonumber(ARGV[6]))) do
    fail_if_nobody_can_paint(id)
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
return {1, #expired, lost, redis.call('ZCARD', RUNNING) + redis.call('ZCARD', DISPATCHED)}
