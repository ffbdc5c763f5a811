-- KEYS: where the Idempotency-Key is remembered, if one came.
-- ARGV: envelope, id, most queued jobs, priority (interactive or batch), owner, then the record's fields and values.
-- Returns {'queued', queued jobs} or {'full', queued jobs} or {'exists', 0} or {'replayed', id of the first}.
local id, limit, priority, owner = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
if redis.call('EXISTS', JOB .. id) == 1 then return {'exists', 0} end
local first = KEYS[1] and redis.call('GET', KEYS[1])
if first then return {'replayed', first} end
local queued = redis.call('ZCARD', WAITING) + redis.call('ZCARD', WAITING_BATCH) + redis.call('ZCARD', DISPATCHED)
if queued >= limit then return {'full', queued} end
-- The last part of the memory is for what was accepted before: RQ's own commands have no leave to exceed the limit.
local memory = redis.call('INFO', 'memory')
local most, used = tonumber(memory:match('maxmemory:(%d+)')), tonumber(memory:match('used_memory:(%d+)'))
if most and most > 0 and used > most * MEMORY_FOR_SUBMITS then
  return redis.error_reply('OOM no memory is left for another job')
end
local sequence = redis.call('INCR', SEQUENCE)
-- An owner has one job in a round, and one who comes anew begins with the next round: see jobs/board.py.
local line = priority .. ':' .. owner
local round = math.max(tonumber(redis.call('HGET', FAIRNESS, priority) or 0),
  tonumber(redis.call('HGET', FAIRNESS, line) or 0)) + 1
redis.call('HSET', FAIRNESS, line, round)
local place = string.format('%.7f', round + (sequence % 1000000) / 1000000)
redis.call('HSET', JOB .. id, 'state', 'queued', 'sequence', sequence, 'created_at', now(), 'phase', 'queued',
  'priority', priority, 'owner', owner, 'place', place, 'attempt', 0, 'token', 0, 'step', 0, unpack(ARGV, 6))
index(id, false, 'queued')
if KEYS[1] then redis.call('SET', KEYS[1], id, 'EX', IDEMPOTENCY_TTL) end
redis.call('ZADD', waiting(priority), place, id)
feed(ARGV[1])
return {'queued', queued + 1}
