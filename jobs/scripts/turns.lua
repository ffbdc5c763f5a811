-- Shared by the transitions of workers, after clock.lua: what only one process at a time needs to do.

-- Whether it is this process's turn. The one that has it keeps it for as long as it asks again within `ms`.
local function take_turn(turn, process, ms)
  local holder = redis.call('GET', turn)
  if holder and holder ~= process then return false end
  redis.call('SET', turn, process, 'PX', ms)
  return true
end

-- Note a worker's heartbeat and what it can paint.
local function beat(worker, entry, at)
  redis.call('ZADD', WORKERS, at, worker)
  if entry ~= '' and redis.call('HGET', ABILITIES, worker) ~= entry then redis.call('HSET', ABILITIES, worker, entry) end
end

-- Forget workers that have been silent for long.
local function forget_dead_workers(at)
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', at - 4 * WORKER_SILENCE)) do
    redis.call('ZREM', WORKERS, dead)
    redis.call('HDEL', ABILITIES, dead)
  end
end
