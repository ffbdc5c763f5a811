-- Shared by the transitions of workers, after abilities.lua: whose fault it was that an attempt failed.
-- A job's own faults, those of workers and those of dependencies (the image store) have budgets apart.

-- The workers on which attempts at a job have failed.
local function failed_on(id)
  local names = redis.call('HGET', JOB .. id, 'failed_on')
  return names and cjson.decode(names) or {}
end

local function contains(list, wanted)
  for _, name in ipairs(list) do
    if name == wanted then return true end
  end
  return false
end

-- Whether a living worker that has not failed a job yet, and has not taken itself out, can paint it.
local function another_can(id, at)
  local tried, model = failed_on(id), model_of(id)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, at - WORKER_SILENCE, '+inf')) do
    if not contains(tried, name) then
      local entry = redis.call('HGET', ABILITIES, name)
      local read = entry and cjson.decode(entry)
      if not read or not read.out and (not model or contains(read.able, model)) then return true end
    end
  end
  return false
end

-- Whether a worker has failed a job that another one could try.
local function should_leave(id, worker, at)
  return contains(failed_on(id), worker) and another_can(id, at)
end

-- Charge a failed attempt to one of the budgets: job, worker or dependency. Whether the job fails for good: its budget
-- is used up, and it has failed on different workers, if there are any.
local function charge(id, blame, worker, most, at)
  local key = JOB .. id
  local faults = redis.call('HINCRBY', key, blame .. '_faults', 1)
  if blame == 'dependency' then return faults >= most end
  local names = failed_on(id)
  if worker and not contains(names, worker) then
    names[#names + 1] = worker
    redis.call('HSET', key, 'failed_on', cjson.encode(names))
  end
  if faults < most then return false end
  return #names > 1 or faults >= 3 * most or not another_can(id, at)
end
