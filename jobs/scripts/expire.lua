-- ARGV: id, how long the record stays as a tombstone in seconds.
-- terminal -> expired, once its image is gone.
local id = ARGV[1]
redis.call('ZREM', FINISHED, id)
if redis.call('EXISTS', JOB .. id) == 0 then return 0 end
bury(id, tonumber(ARGV[2]))
return 1
