-- ARGV: envelope, id.
-- Takes back a queued job of a batch that was not accepted, as if it had never been submitted. Returns the state before,
-- or nil; a job that is not queued any more stays as it is.
local id = ARGV[2]
local key = JOB .. id
local current = redis.call('HMGET', key, 'state', 'owner', 'batch')
if current[1] ~= 'queued' then return current[1] end
close_gap(id)
unqueue(id)
for _, list in ipairs({INDEX .. (current[2] or ''), BATCH_JOBS .. (current[3] or '')}) do
  redis.call('ZREM', list, id)
  redis.call('ZREM', list .. ':queued', id)
end
redis.call('DEL', key, EVENTS .. id)
refill(ARGV[1])
return current[1]
