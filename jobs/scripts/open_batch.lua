-- KEYS: the key of the Idempotency-Key, if the request has one.
-- ARGV: id, owner, seconds for which a batch without jobs is kept, then the batch's fields and values.
-- Returns {'opened', id}, or {'replayed', id of the first batch with this Idempotency-Key}.
local id, owner = ARGV[1], ARGV[2]
local first = KEYS[1] and redis.call('GET', KEYS[1])
if first then return {'replayed', first} end
redis.call('HSET', BATCH .. id, 'owner', owner, 'created_at', now(), unpack(ARGV, 4))
redis.call('EXPIRE', BATCH .. id, ARGV[3])
if KEYS[1] then redis.call('SET', KEYS[1], id, 'EX', IDEMPOTENCY_TTL) end
return {'opened', id}
