-- ARGV: id. From now on no job joins the batch. Those it has are canceled one by one.
local key = BATCH .. ARGV[1]
if redis.call('EXISTS', key) == 1 then redis.call('HSETNX', key, 'canceled_at', now()) end
return nil
