-- ARGV: lease in ms, maximum calls, maximum in progress of one target, of one owner, then targets and how many calls of
-- each the caller has in progress.
-- Takes calls that are due, the longest overdue first. A call that is not settled before its lease ends is due again.
-- Returns {id, turn, attempt, target, fields and values} for each.
local at, most, of_target, of_owner = now(), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local under_way, taken = {}, {}

local function owner_of(target) return target:match('^[^|]*|') end

local function count(name, more) under_way[name] = (under_way[name] or 0) + more end

local function take_call(id, target)
  local key = JOB .. id
  local own, gone = webhook_of(id)
  if own ~= target then -- the record no longer exists
    count_pending(-redis.call('ZREM', OUTBOX .. target, id))
  elseif redis.call('EXISTS', gone) == 1 and redis.call('HEXISTS', key, 'webhook_insisted') == 0 then
    remove_call(id, target, 'disabled')
  else
    schedule_call(id, target, at + ARGV[1])
    redis.call('HSET', key, 'webhook_state', 'sending', 'webhook_at', at)
    local turn = redis.call('HINCRBY', key, 'webhook_turn', 1)
    local attempt = redis.call('HINCRBY', key, 'webhook_attempts', 1)
    taken[#taken + 1] = {id, turn, attempt, target, redis.call('HGETALL', key)}
    count(owner_of(target), 1)
  end
end

for i = 5, #ARGV, 2 do
  count(ARGV[i], tonumber(ARGV[i + 1]))
  count(owner_of(ARGV[i]), tonumber(ARGV[i + 1]))
end
for _, target in ipairs(redis.call('ZRANGEBYSCORE', OUTBOX_TARGETS, '-inf', at, 'LIMIT', 0, 1000)) do
  if most <= #taken then break end
  local left = of_owner - (under_way[owner_of(target)] or 0)
  if left <= 0 then
    -- Look at this target again in a second: an owner with thousands of targets must not hide those of others.
    redis.call('ZADD', OUTBOX_TARGETS, at + 1000, target)
  else
    local room = math.min(of_target - (under_way[target] or 0), left, most - #taken)
    if room > 0 then
      for _, id in ipairs(redis.call('ZRANGEBYSCORE', OUTBOX .. target, '-inf', at, 'LIMIT', 0, room)) do
        take_call(id, target)
      end
      update_target(target)
    end
  end
end
return taken
