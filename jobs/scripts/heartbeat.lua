-- ARGV: worker, its entry or '', '1' when it leaves.
if ARGV[3] == '1' then
  redis.call('ZREM', WORKERS, ARGV[1])
  redis.call('HDEL', ABILITIES, ARGV[1])
  if redis.call('GET', RECONCILER) == ARGV[1] then redis.call('DEL', RECONCILER) end
else
  beat(ARGV[1], ARGV[2], now())
end
return nil
