-- ARGV: id, seconds for which the record stays as a tombstone.
-- terminal -> expired, once its image is deleted. Returns 1, or 0 for an unknown id.
local id = ARGV[1]
redis.call('ZREM', FINISHED, id)
if redis.call('EXISTS', JOB .. id) == 0 then return 0 end
expire_record(id, tonumber(ARGV[2]))
return 1
