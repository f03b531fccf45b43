-- Add to a counter what an audit found to be missing.
-- KEYS  1 epoch  2 counter
-- ARGV  1 epoch under which was audited  2 to add to settled  3 to add to reserved
-- Reply 1 | 0 the ledger was rebuilt meanwhile, or the counter was forgotten
-- Invariant: a difference commutes with whatever was admitted and settled since it was found; a rebuild does not.
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
if ARGV[2] ~= '0' then redis.call('HINCRBY', KEYS[2], 's', ARGV[2]) end
if ARGV[3] ~= '0' then redis.call('HINCRBY', KEYS[2], 'r', ARGV[3]) end
return 1
