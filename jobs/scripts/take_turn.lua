-- ARGV: key of the turn, process, ms for which it keeps the turn. Returns 1, or 0 when another process has it.
return take_turn(ARGV[1], ARGV[2], ARGV[3]) and 1 or 0
