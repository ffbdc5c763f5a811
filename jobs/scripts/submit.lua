-- KEYS: the key of the Idempotency-Key, if the request has one.
-- ARGV: envelope, id, maximum queued jobs, maximum of one owner, maximum of bytes kept for one owner, priority
-- (interactive or batch), owner, batch or '', then the record's fields and values.
-- Returns {'queued', queued jobs, snapshot()} (without the snapshot for a job of a batch), {'full', queued jobs},
-- {'own-full', the owner's queued jobs}, {'own-kept', the owner's bytes}, {'exists', 0}, {'replayed', id of the first
-- job with this Idempotency-Key}, or
-- {'canceled', 0} when the batch is canceled.
local id, limit, own_limit, kept_limit, priority, owner, batch =
  ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
if redis.call('EXISTS', JOB .. id) == 1 then return {'exists', 0} end
local first = KEYS[1] and redis.call('GET', KEYS[1])
if first then return {'replayed', first} end
local queued = redis.call('ZCARD', WAITING) + redis.call('ZCARD', WAITING_BATCH) + redis.call('ZCARD', DISPATCHED)
if queued >= limit then return {'full', queued} end
local own = redis.call('ZCARD', INDEX .. owner .. ':queued')
if own >= own_limit then return {'own-full', own} end
local size = RECORD_BYTES
for i = 9, #ARGV do size = size + #ARGV[i] end
local kept = tonumber(redis.call('HGET', OWNER_BYTES, owner) or 0)
if kept + size > kept_limit then return {'own-kept', kept} end
if batch ~= '' and redis.call('HEXISTS', BATCH .. batch, 'canceled_at') == 1 then return {'canceled', 0} end
if memory_is_short() then return redis.error_reply('OOM no memory is left for another job') end
local sequence = redis.call('INCR', SEQUENCE)
-- An owner has one job per round, and an owner without waiting jobs starts with the next round: see jobs/board.py.
local turn = priority .. ':' .. owner
local round = math.max(tonumber(redis.call('HGET', FAIRNESS, priority) or 0),
  tonumber(redis.call('HGET', FAIRNESS, turn) or 0)) + 1
redis.call('HSET', FAIRNESS, turn, round)
local place = string.format('%.7f', round + (sequence % 1000000) / 1000000)
redis.call('HSET', JOB .. id, 'state', 'queued', 'sequence', sequence, 'created_at', now(), 'phase', 'queued',
  'priority', priority, 'owner', owner, 'place', place, 'attempt', 0, 'token', 0, 'step', 0, 'size', size, unpack(ARGV, 9))
redis.call('HINCRBY', OWNER_BYTES, owner, size)
if batch ~= '' then
  redis.call('HSET', JOB .. id, 'batch', batch)
  redis.call('PERSIST', BATCH .. batch)
end
index_job(id, false, 'queued')
if KEYS[1] then redis.call('SET', KEYS[1], id, 'EX', IDEMPOTENCY_TTL) end
redis.call('ZADD', waiting_key(priority), place, id)
refill(ARGV[1])
-- The caller does not need a snapshot of every job of a batch.
return {'queued', queued + 1, batch == '' and snapshot(id) or nil}
