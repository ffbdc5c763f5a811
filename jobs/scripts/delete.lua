-- ARGV: id, seconds for which the record stays as a tombstone.
-- terminal -> expired on its owner's request, once its image is deleted.
-- Returns the state before, or nil for an unknown id.
local id = ARGV[1]
local state = redis.call('HGET', JOB .. id, 'state')
if ENDED[state] then
  expire_record(id, tonumber(ARGV[2]))
  redis.call('HSET', JOB .. id, 'deleted', 1)
end
return state
