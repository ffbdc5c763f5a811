-- ARGV: id, token, step, image in base64, seconds to keep the latest image, seconds to keep one that is not any more.
-- Stores a picture of the unfinished canvas and adds an event. Returns 'lost' for a late attempt, 'full' when the rest of
-- the memory is reserved for accepted jobs, else 'ok'.
local id, step = ARGV[1], ARGV[3]
if not owns(id, ARGV[2]) then return 'lost' end
if memory_is_short() then return 'full' end
local latest = PREVIEW .. id .. ':latest'
local before = redis.call('GET', latest)
if before and before ~= step then redis.call('EXPIRE', PREVIEW .. id .. ':' .. before, ARGV[6]) end
redis.call('SET', PREVIEW .. id .. ':' .. step, ARGV[4], 'EX', ARGV[5])
redis.call('SET', latest, step, 'EX', ARGV[5])
publish(id, 'preview', 'step', step)
return 'ok'
