-- Write a target's configured limits, keeping what its bucket has learned and spent.
-- KEYS  1 bucket  2 index of targets
-- ARGV  1 target  2 version  3 burst us  4 max in flight (0 none)  5 refund share, -1 learned
--       6-9 limits per dimension (0 none)  10-13 floors per lane  14-17 shares per lane  18 clock (tests)
-- Reply 1 applied | 0 a newer version was there
-- Invariants: an older version never overwrites a newer one; a minute limit that is new begins empty, so that a cold
-- start ramps; a new version tears up the tickets, because they were drawn under other limits.
local raw = redis.call('GET', KEYS[1])
local b, now = open_bucket(raw, clock(ARGV[18]))
if raw and b[VERSION] > tonumber(ARGV[2]) then return 0 end
b[MAX_IN_FLIGHT], b[REFUND_FIXED] = tonumber(ARGV[4]), tonumber(ARGV[5])
local unchanged = raw and b[VERSION] == tonumber(ARGV[2])
b[VERSION], b[BURST] = tonumber(ARGV[2]), tonumber(ARGV[3])
for d = 1, 4 do
  local limit, before = tonumber(ARGV[5 + d]), interval(b, d)
  b[CONFIGURED + d] = limit > 0 and PERIOD[d] / limit or 0
  if d <= 2 and limit > 0 and before == 0 then b[TAT + d] = now + b[BURST] end
end
for lane = 1, 4 do
  b[FLOOR + lane], b[SHARE + lane] = tonumber(ARGV[9 + lane]), tonumber(ARGV[13 + lane])
  if not unchanged then b[TICKET + lane] = 0 end
end
redis.call('SADD', KEYS[2], ARGV[1])
save_bucket(KEYS[1], b)
return 1
