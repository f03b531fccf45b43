-- One step of writing the ledger anew from Postgres. Until the last step the epoch key is missing: money is closed.
-- KEYS  1 epoch  2 epoch under construction  then by step
-- ARGV  1 epoch  2 step  3 clock (tests)  then by step
--   close                       take over, unless a newer epoch stands or is being built
--   wipe    KEYS 3..            drop counters, in-flight and suspense of the old epoch
--   count   KEYS 3 index, 4 counter; ARGV limit or '', settled, reserved, thresholds passed, seconds to keep
--   carry   KEYS 3 in-flight or suspense; ARGV lifetime us, stamp...   open reservations keep their stamps
--   open                        set the epoch key, last
-- Reply 1 done | 0 another rebuild took over
-- Invariant: the epoch key never stands beside counters of another epoch.
local step = ARGV[2]
if step == 'close' then
  local stands, building = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
  if (stands and tonumber(stands) > tonumber(ARGV[1])) or (building and tonumber(building) > tonumber(ARGV[1])) then
    return 0
  end
  redis.call('SET', KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[1])
  return 1
end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if step == 'wipe' then
  for j = 3, #KEYS do redis.call('DEL', KEYS[j]) end
elseif step == 'count' then
  redis.call('DEL', KEYS[4])
  redis.call('HSET', KEYS[4], 's', ARGV[5], 'r', ARGV[6], 'th', ARGV[7])
  if ARGV[4] ~= '' then redis.call('HSET', KEYS[4], 'l', ARGV[4]) end
  redis.call('EXPIRE', KEYS[4], ARGV[8])
  redis.call('ZADD', KEYS[3], string.format('%.0f', clock(ARGV[3]) + ARGV[8] * SECOND), KEYS[4])
elseif step == 'carry' then
  local at = string.format('%.0f', clock(ARGV[3]) + ARGV[4])
  for j = 5, #ARGV do redis.call('ZADD', KEYS[3], at, ARGV[j]) end
elseif step == 'open' then
  redis.call('SET', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2])
end
return 1
