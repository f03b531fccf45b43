-- A provider said 429: freeze the target for everybody, thaw from an empty bucket, and learn the rate.
-- KEYS  1 bucket  2 index of targets  3 which refusal its freeze came from
-- ARGV  1 target  2 wait us  3 dimension that was hit 1..4, 0 unknown  4 its true interval us, '' unknown
--       5 it rose too fast 0|1  6 clock (tests)
-- Reply microseconds until the thaw
-- Invariants: a burst of refusals within one freeze cuts the rate once, and one within ten seconds halves it once; a
-- rate that a provider taught is not cut; a rise that was too fast teaches no limit; a freeze comes from the refusal
-- that set its end.
local RAMP_PAUSE, LEAST_RAMP = 10 * SECOND, 1 / 16
local raw = redis.call('GET', KEYS[1])
local b, now = open_bucket(raw, clock(ARGV[6]))
local wait, d = tonumber(ARGV[2]), tonumber(ARGV[3])
local first = b[FROZEN_UNTIL] <= now
if now + wait > b[FROZEN_UNTIL] then
  b[FROZEN_UNTIL] = now + wait
  redis.call('SET', KEYS[3], ARGV[5] == '1' and 'slow_down' or 'retry_after')
end

if ARGV[5] == '1' then
  if b[RAMP_FACTOR] >= 1 or now - b[RAMP_AT] >= RAMP_PAUSE then
    b[RAMP_FACTOR] = math.max(LEAST_RAMP, 0.5 * ramp_factor(b, now))
    b[RAMP_AT] = now
  end
elseif ARGV[4] ~= '' then
  b[LEARNED + d] = tonumber(ARGV[4])
elseif first and b[LEARNED + 1] == 0 and b[LEARNED + 2] == 0 then
  b[RATE_FACTOR] = math.max(0.5, 0.9 * rate_factor(b, now))
  b[FACTOR_AT] = now
end
for minute = 1, 2 do
  local empty = b[FROZEN_UNTIL] + b[BURST]
  if d ~= 3 - minute and empty > b[TAT + minute] then b[TAT + minute] = empty end
end
if not raw then redis.call('SADD', KEYS[2], ARGV[1]) end
save_bucket(KEYS[1], b)
return micros(b[FROZEN_UNTIL] - now)
