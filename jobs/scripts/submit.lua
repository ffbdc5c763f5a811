-- ARGV: envelope, id, most queued jobs, then the record's fields and values.
-- Returns {'queued', queued jobs} or {'full', queued jobs} or {'exists', 0}.
local id, limit = ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', JOB .. id) == 1 then return {'exists', 0} end
local queued = redis.call('ZCARD', WAITING) + redis.call('ZCARD', DISPATCHED)
if queued >= limit then return {'full', queued} end
local sequence = redis.call('INCR', SEQUENCE)
redis.call('HSET', JOB .. id, 'state', 'queued', 'sequence', sequence, 'created_at', now(), 'phase', 'queued',
  'attempt', 0, 'token', 0, 'step', 0, unpack(ARGV, 4))
redis.call('ZADD', WAITING, sequence, id)
feed(ARGV[1])
return {'queued', queued + 1}
