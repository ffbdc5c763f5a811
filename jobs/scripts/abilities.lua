-- Shared by the transitions of workers, after prelude.lua: which worker can paint which model.

-- The model of a job; nil where the record does not say.
local function model_of(id)
  local read, input = pcall(cjson.decode, redis.call('HGET', JOB .. id, 'input') or '')
  return read and type(input) == 'table' and input.model or nil
end

-- Whether a worker that can paint `able` (JSON; '' is everything) can paint a job.
local function can_paint(able, id)
  if able == '' then return true end
  local model = model_of(id)
  if not model then return true end
  for _, name in ipairs(cjson.decode(able)) do
    if name == model then return true end
  end
  return false
end

-- Whether any living worker can paint a job. If not, second, why: what one of them says.
local function anyone_can_paint(id, at)
  local model = model_of(id)
  if not model then return true end
  local reason = 'no worker has the model ' .. model
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, at - WORKER_SILENCE, '+inf')) do
    local entry = redis.call('HGET', ABILITIES, name)
    if not entry then return true end
    local read = cjson.decode(entry)
    for _, painted in ipairs(read.able) do
      if painted == model then return true end
    end
    reason = read.broken[model] or reason
  end
  return false, reason
end

-- queued -> running, for a job that is queued. Returns the record's fields and values.
local function start(id, worker, lease, nonce)
  local key = JOB .. id
  unqueue(id)
  redis.call('HINCRBY', key, 'attempt', 1)
  local number = redis.call('HINCRBY', key, 'token', 1)
  enter_state(id, 'running')
  redis.call('HDEL', key, 'denoising_at', 'stepped_at', 'refused_by')
  redis.call('HSET', key, 'started_at', now(), 'worker', worker, 'fence', number .. '-' .. nonce, 'step', 0, 'phase', 'starting')
  redis.call('ZADD', RUNNING, now() + tonumber(lease), id)
  return redis.call('HGETALL', key)
end
