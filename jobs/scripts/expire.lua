-- ARGV: id, how long the record stays as a tombstone in seconds.
-- terminal -> expired, once its image is gone. What the user gave (prompt, metadata) goes with it.
local id, key = ARGV[1], JOB .. ARGV[1]
redis.call('ZREM', FINISHED, id)
if redis.call('EXISTS', key) == 0 then return 0 end
redis.call('HDEL', key, 'input', 'metadata', 'result', 'error', 'timings', 'notices')
redis.call('HSET', key, 'state', 'expired', 'phase', 'expired')
redis.call('EXPIRE', key, tonumber(ARGV[2]))
return 1
