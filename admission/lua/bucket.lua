-- Shared opening of every script that touches a bucket: its clock, its state, its intervals. No key is named here.
-- Unit: microseconds of refill. A request costs permits x interval; level = burst - max(0, TAT - now).
-- Invariant: moments never run backwards within one bucket. The constants (LAST_AT, TAT, ...) are offsets into the
-- packed array and are written in front of this file by admission/state.py; vectors are indexed VECTOR + dimension
-- (1 requests/min, 2 tokens/min, 3 requests/day, 4 tokens/day) or VECTOR + lane (1 critical .. 4 low).
local MINUTE, DAY, SECOND = 60000000, 86400000000, 1000000
local PERIOD = {MINUTE, MINUTE, DAY, DAY}
local RAMP_STEP, RAMP_GROWTH = 15 * MINUTE, 1.5

-- The server's clock in microseconds since ORIGIN; `override` is empty but in tests.
local function clock(override)
  if override ~= '' then return tonumber(override) end
  local t = redis.call('TIME')
  return (t[1] - ORIGIN) * 1000000 + t[2]
end

local function fresh(now)
  local b = {}
  for i = 1, SIZE do b[i] = 0 end
  for _, at in ipairs({BORN_AT, LAST_AT, FACTOR_AT, RAMP_AT, LAST_SETTLED_AT, MINUTE_AT}) do b[at] = now end
  b[PACE], b[BURST], b[REFUND_FIXED] = 50000, SECOND, -1
  b[RATE_FACTOR], b[RAMP_FACTOR] = 1, 1
  for lane, floor in ipairs(DEFAULT_FLOORS) do b[FLOOR + lane] = floor end
  for lane, share in ipairs(DEFAULT_SHARES) do b[SHARE + lane] = share end
  return b
end

-- Days that end at a fixed hour: the level of dimension 3 or 4 is what TAT leaves of the window until its end.
local function ends_at_hour(b, d)
  return d >= 3 and b[DAY_ENDS + 1] > 0
end

-- A step back of the clock beyond a second moves every moment of the bucket with it, but for the calendar's; a smaller
-- one is waited out.
local function rebase(b, now)
  local step = now - b[LAST_AT]
  if step >= 0 then return now end
  if step > -SECOND then return b[LAST_AT] end
  for _, at in ipairs(moments()) do
    if not ends_at_hour(b, at - TAT) or at > TAT + 4 then b[at] = b[at] + step end
  end
  return now
end

-- Whoever configures says when this window ends and when the next one does; without news a day has 24 hours.
local function turn_day(b, now)
  while b[DAY_ENDS + 1] > 0 and now >= b[DAY_ENDS + 1] do
    b[DAY_ENDS + 1], b[DAY_ENDS + 2] = b[DAY_ENDS + 2], b[DAY_ENDS + 2] + DAY
    b[TAT + 3], b[TAT + 4] = b[DAY_ENDS + 1] - DAY, b[DAY_ENDS + 1] - DAY
  end
end

-- State and clamped time; nil raw is a target that nobody configured: nothing of it is limited until headers say so.
local function open_bucket(raw, now)
  if not raw then return fresh(now), now end
  local b = {struct.unpack(FORMAT, raw)}
  b[SIZE + 1] = nil
  now = rebase(b, now)
  b[LAST_AT] = now
  turn_day(b, now)
  return b, now
end

local function save_bucket(key, b)
  redis.call('SET', key, struct.pack(FORMAT, unpack(b)))
end

-- Microseconds per permit: the slower of what was configured and what was learned; 0 is unlimited.
local function interval(b, d)
  if b[LEARNED + d] > b[CONFIGURED + d] then return b[LEARNED + d] end
  return b[CONFIGURED + d]
end

-- After a 429 that no header explained the rate is cut; it comes back by 1 % per 10 s.
local function rate_factor(b, now)
  local factor = b[RATE_FACTOR] + (now - b[FACTOR_AT]) / (10 * SECOND) * 0.01
  if factor > 1 then return 1 end
  return factor
end

-- After a slow_down the rate is halved, whatever is known of limits; it grows back as fast as providers ask for.
local function ramp_factor(b, now)
  if b[RAMP_FACTOR] >= 1 then return 1 end
  local factor = b[RAMP_FACTOR] * RAMP_GROWTH ^ ((now - b[RAMP_AT]) / RAMP_STEP)
  return factor < 1 and factor or 1
end

local function paced_interval(b, d, now)
  local i = interval(b, d)
  if d > 2 then return i end
  if b[LEARNED + d] == 0 then i = i / rate_factor(b, now) end
  return i / ramp_factor(b, now)
end

local function burst_of(b, d)
  if d <= 2 then return b[BURST] end
  return DAY
end

-- What a full bucket lacks, less all that it holds: a request fits while this and its need are together not above 0.
local function behind(b, d, now)
  if ends_at_hour(b, d) then return b[TAT + d] - b[DAY_ENDS + 1] end
  return b[TAT + d] - now - burst_of(b, d)
end

-- Microseconds that a lack takes to mend: refill mends it as it goes, a window only by turning.
local function mended_in(b, d, lack, now)
  if lack > 0 and ends_at_hour(b, d) then return b[DAY_ENDS + 1] - now end
  return lack
end

local function charge(b, d, cost, now)
  local from = b[TAT + d]
  if from < now and not ends_at_hour(b, d) then from = now end
  b[TAT + d] = from + cost
end

-- What was reserved in a window that has turned does not come back in the next one.
local function correct(b, d, cost)
  b[TAT + d] = b[TAT + d] + cost
  if ends_at_hour(b, d) then b[TAT + d] = math.max(b[TAT + d], b[DAY_ENDS + 1] - DAY) end
end

-- Microseconds as an integer for the reply, never below zero; 2^53 is beyond any wait.
local function micros(x)
  if x < 0 then return 0 end
  return math.ceil(x)
end
