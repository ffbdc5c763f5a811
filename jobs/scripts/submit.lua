-- KEYS: where the Idempotency-Key is remembered, if one came.
-- ARGV: envelope, id, most queued jobs, then the record's fields and values.
-- Returns {'queued', queued jobs} or {'full', queued jobs} or {'exists', 0} or {'replayed', id of the first}.
local id, limit = ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', JOB .. id) == 1 then return {'exists', 0} end
local first = KEYS[1] and redis.call('GET', KEYS[1])
if first then return {'replayed', first} end
local queued = redis.call('ZCARD', WAITING) + redis.call('ZCARD', DISPATCHED)
if queued >= limit then return {'full', queued} end
local sequence = redis.call('INCR', SEQUENCE)
redis.call('HSET', JOB .. id, 'state', 'queued', 'sequence', sequence, 'created_at', now(), 'phase', 'queued',
  'attempt', 0, 'token', 0, 'step', 0, unpack(ARGV, 4))
index(id, false, 'queued')
if KEYS[1] then redis.call('SET', KEYS[1], id, 'EX', IDEMPOTENCY_TTL) end
redis.call('ZADD', WAITING, sequence, id)
feed(ARGV[1])
return {'queued', queued + 1}
