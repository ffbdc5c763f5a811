-- ARGV: id. Returns what snapshot() in prelude.lua documents, in one round trip.
return snapshot(ARGV[1])
