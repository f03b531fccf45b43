-- A provider said 429: freeze the target for everybody, thaw from an empty bucket, and learn the rate.
-- KEYS  1 bucket  2 index of targets
-- ARGV  1 target  2 wait us  3 dimension 1..4, 0 unknown  4 limit  5 used  6 requested ('' where unknown)  7 clock (tests)
-- Reply microseconds until the thaw
-- Invariants: a burst of refusals within one freeze cuts the rate once; a rate that headers taught is not cut; numbers
-- teach only when they agree with the period of their dimension (a wait rounded up to whole seconds does not).
local raw = redis.call('GET', KEYS[1])
local b, now = open_bucket(raw, clock(ARGV[7]))
local wait, d = tonumber(ARGV[2]), tonumber(ARGV[3])
local first = b[FROZEN_UNTIL] <= now
if now + wait > b[FROZEN_UNTIL] then b[FROZEN_UNTIL] = now + wait end

local beyond = 0
if ARGV[4] ~= '' and d > 0 then beyond = ARGV[5] + ARGV[6] - ARGV[4] end
local period = beyond > 0 and wait / beyond * ARGV[4] or 0
if beyond > 0 and wait >= 20000 and period > PERIOD[d] / 1.6 and period < PERIOD[d] * 1.6 then
  b[LEARNED + d] = wait / beyond
elseif first and b[LEARNED + 1] == 0 and b[LEARNED + 2] == 0 then
  b[RATE_FACTOR] = math.max(0.5, 0.9 * rate_factor(b, now))
  b[FACTOR_AT] = now
end
for minute = 1, 2 do
  local empty = b[FROZEN_UNTIL] + b[BURST]
  if empty > b[TAT + minute] then b[TAT + minute] = empty end
end
if not raw then redis.call('SADD', KEYS[2], ARGV[1]) end
save_bucket(KEYS[1], b)
return micros(b[FROZEN_UNTIL] - now)
