-- ARGV: lease in ms, most calls, most at once of a target, then targets and how many calls of each are under way here.
-- Takes calls that are due, the longest due first. What is not settled before its lease ends is due again.
-- Returns {id, turn, attempt, fields and values} of each.
local at, most, at_once = now(), tonumber(ARGV[2]), tonumber(ARGV[3])
local under_way, taken = {}, {}
for i = 4, #ARGV, 2 do under_way[ARGV[i]] = tonumber(ARGV[i + 1]) end
for _, target in ipairs(redis.call('ZRANGEBYSCORE', OUTBOX_TARGETS, '-inf', at, 'LIMIT', 0, 1000)) do
  local room = math.min(at_once - (under_way[target] or 0), most - #taken)
  if most <= #taken then break end
  if room > 0 then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', OUTBOX .. target, '-inf', at, 'LIMIT', 0, room)) do
      local key = JOB .. id
      local own, gone = webhook_of(id)
      if own ~= target then -- the record is lost
        redis.call('HINCRBY', WEBHOOK_TALLY, 'pending', -redis.call('ZREM', OUTBOX .. target, id))
      elseif redis.call('EXISTS', gone) == 1 and redis.call('HEXISTS', key, 'webhook_insisted') == 0 then
        unpost(id, target, 'disabled')
      else
        post(id, target, at + ARGV[1])
        redis.call('HSET', key, 'webhook_state', 'sending', 'webhook_at', at)
        local turn = redis.call('HINCRBY', key, 'webhook_turn', 1)
        local attempt = redis.call('HINCRBY', key, 'webhook_attempts', 1)
        taken[#taken + 1] = {id, turn, attempt, target, redis.call('HGETALL', key)}
      end
    end
    aim(target)
  end
end
return taken
