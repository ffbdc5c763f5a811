-- ARGV: id, token, lease in ms.
-- Returns 'lost' when another attempt owns the job or it has ended, 'cancel' when a cancel was requested, else 'ok'.
local id = ARGV[1]
if not owns(id, ARGV[2]) then return 'lost' end
local lease = tonumber(ARGV[3])
redis.call('ZADD', RUNNING, tick(lease) + lease, id)
if redis.call('HEXISTS', JOB .. id, 'cancel') == 1 then return 'cancel' end
return 'ok'
