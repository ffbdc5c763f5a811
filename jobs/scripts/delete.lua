-- ARGV: id, how long the record stays as a tombstone in seconds.
-- terminal -> expired at its owner's wish, once its image is gone. Returns the state before, or nil for an unknown id.
local id = ARGV[1]
local state = redis.call('HGET', JOB .. id, 'state')
if ENDED[state] then
  bury(id, tonumber(ARGV[2]))
  redis.call('HSET', JOB .. id, 'deleted', 1)
end
return state
