-- Write a target's configured limits, keeping what its bucket has learned and spent.
-- KEYS  1 bucket  2 index of targets
-- ARGV  1 target  2 version  3 burst us  4 max in flight (0 none)  5 refund share, -1 learned
--       6-9 limits per dimension (0 none)  10-13 floors per lane  14-17 shares per lane
--       18 end of the day that runs (0: days roll)  19 end of the next one  20 clock (tests)
-- Reply 1 applied | 0 a newer version was there
-- Invariants: an older version never overwrites a newer one; a minute limit that is new begins empty, so that a cold
-- start ramps; a new version tears up the tickets, because they were drawn under other limits; what was spent of a day
-- stays spent when the hour of its end changes.
local raw = redis.call('GET', KEYS[1])
local b, now = open_bucket(raw, clock(ARGV[20]))
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
local ends, was = tonumber(ARGV[18]), b[DAY_ENDS + 1]
if unchanged and was > 0 and ends > was then
  b[DAY_ENDS + 2] = ends  -- the caller's clock is ahead: this bucket's day is not over
else
  for d = 3, 4 do
    local spent = math.max(0, b[TAT + d] - (was > 0 and was - DAY or now))
    b[TAT + d] = (ends > 0 and ends - DAY or now) + spent
  end
  b[DAY_ENDS + 1], b[DAY_ENDS + 2] = ends, tonumber(ARGV[19])
end
redis.call('SADD', KEYS[2], ARGV[1])
save_bucket(KEYS[1], b)
return 1
