-- ARGV: worker, its entry or '', '1' when it leaves.
if ARGV[3] == '1' then
  redis.call('ZREM', WORKERS, ARGV[1])
  redis.call('HDEL', ABILITIES, ARGV[1])
  if redis.call('GET', RECONCILER) == ARGV[1] then redis.call('DEL', RECONCILER) end
else
  local at = now()
  beat(ARGV[1], ARGV[2], at)
  forget_dead_workers(at)
end
return nil
