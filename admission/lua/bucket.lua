-- Shared opening of every script that touches a bucket: its clock, its state, its intervals. No key is named here.
-- Unit: microseconds of refill. A request costs permits x interval; level = burst - max(0, TAT - now).
-- Invariant: moments never run backwards within one bucket. The constants (LAST_AT, TAT, ...) are offsets into the
-- packed array and are written in front of this file by admission/state.py; vectors are indexed VECTOR + dimension
-- (1 requests/min, 2 tokens/min, 3 requests/day, 4 tokens/day) or VECTOR + lane (1 critical .. 4 low).
local MINUTE, DAY, SECOND = 60000000, 86400000000, 1000000
local PERIOD = {MINUTE, MINUTE, DAY, DAY}

-- The server's clock in microseconds since ORIGIN; `override` is empty but in tests.
local function clock(override)
  if override ~= '' then return tonumber(override) end
  local t = redis.call('TIME')
  return (t[1] - ORIGIN) * 1000000 + t[2]
end

local function fresh(now)
  local b = {}
  for i = 1, SIZE do b[i] = 0 end
  b[BORN_AT], b[LAST_AT], b[FACTOR_AT], b[LAST_SETTLED_AT], b[MINUTE_AT] = now, now, now, now, now
  b[PACE], b[BURST], b[RATE_FACTOR], b[REFUND_FIXED], b[REFUND_SHARE] = 50000, SECOND, 1, -1, 1
  for lane, floor in ipairs(DEFAULT_FLOORS) do b[FLOOR + lane] = floor end
  for lane, share in ipairs(DEFAULT_SHARES) do b[SHARE + lane] = share end
  return b
end

-- A step back of the clock beyond a second moves every moment of the bucket with it; a smaller one is waited out.
local function rebase(b, now)
  local step = now - b[LAST_AT]
  if step >= 0 then return now end
  if step > -SECOND then return b[LAST_AT] end
  for _, at in ipairs(moments()) do b[at] = b[at] + step end
  return now
end

-- State and clamped time; nil raw is a target that nobody configured: nothing of it is limited until headers say so.
local function open_bucket(raw, now)
  if not raw then return fresh(now), now end
  local b = {struct.unpack(FORMAT, raw)}
  b[SIZE + 1] = nil
  now = rebase(b, now)
  b[LAST_AT] = now
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

local function paced_interval(b, d, now)
  local i = interval(b, d)
  if d <= 2 and b[LEARNED + d] == 0 then return i / rate_factor(b, now) end
  return i
end

local function burst_of(b, d)
  if d <= 2 then return b[BURST] end
  return DAY
end

-- Microseconds as an integer for the reply, never below zero; 2^53 is beyond any wait.
local function micros(x)
  if x < 0 then return 0 end
  return math.ceil(x)
end
