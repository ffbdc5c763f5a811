-- ARGV: id, token, step, image in base64, seconds that a step's image stays, seconds that the latest stays.
-- Keeps a picture of an unfinished canvas and tells the listeners. Returns 'lost' for a late attempt, else 'ok'.
local id, step = ARGV[1], ARGV[3]
if not owns(id, ARGV[2]) then return 'lost' end
redis.call('SET', PREVIEW .. id .. ':' .. step, ARGV[4], 'EX', ARGV[5])
redis.call('SET', PREVIEW .. id, ARGV[4], 'EX', ARGV[6])
publish(id, 'preview', 'step', step)
return 'ok'
