-- ARGV: envelope, id. A worker that is leaving popped a queued job and does not claim it: the next one takes it first.
local id = ARGV[2]
if redis.call('HGET', JOB .. id, 'state') ~= 'queued' then
  redis.call('LREM', RQ_INTERMEDIATE, 0, id)
  return nil
end
dispatch(id, ARGV[1])
redis.call('LMOVE', RQ_LIST, RQ_LIST, 'RIGHT', 'LEFT')
return nil
