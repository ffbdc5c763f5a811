-- ARGV: id, token, then fields and values. Returns as renew.lua does.
local id = ARGV[1]
if not owns(id, ARGV[2]) then return 'lost' end
redis.call('HSET', JOB .. id, unpack(ARGV, 3))
local current = redis.call('HMGET', JOB .. id, 'step', 'total_steps', 'phase')
publish(id, 'progress', 'step', current[1], 'total_steps', current[2] or '', 'phase', current[3])
if redis.call('HEXISTS', JOB .. id, 'cancel') == 1 then return 'cancel' end
return 'ok'
