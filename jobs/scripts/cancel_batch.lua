-- ARGV: id. From now on the batch accepts no jobs. The caller cancels the jobs it already has one by one.
local key = BATCH .. ARGV[1]
if redis.call('EXISTS', key) == 1 then redis.call('HSETNX', key, 'canceled_at', now()) end
return nil
