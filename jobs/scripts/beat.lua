-- ARGV: lease in ms, process, ms for which it keeps the turn to reconcile, '1' if it is a worker, its entry or ''.
-- What reconcile.lua does for a process that does not have the turn, which is nearly every one, in a third of the time.
-- Returns 1 if the process now has the turn, else 0.
local at = tick(tonumber(ARGV[1]))
if ARGV[4] == '1' then beat(ARGV[2], ARGV[5], at) end
return take_turn(RECONCILER, ARGV[2], ARGV[3]) and 1 or 0
