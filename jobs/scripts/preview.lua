-- ARGV: id, token, step, image in base64, seconds to keep this step's image, seconds to keep it as the latest one.
-- Stores a picture of the unfinished canvas and adds an event. Returns 'lost' for a late attempt, else 'ok'.
local id, step = ARGV[1], ARGV[3]
if not owns(id, ARGV[2]) then return 'lost' end
redis.call('SET', PREVIEW .. id .. ':' .. step, ARGV[4], 'EX', ARGV[5])
redis.call('SET', PREVIEW .. id, ARGV[4], 'EX', ARGV[6])
publish(id, 'preview', 'step', step)
return 'ok'
