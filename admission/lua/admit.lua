-- May this attempt start now? One decision over limits, lanes, in-flight slots and money, all or nothing.
-- KEYS  1 epoch  2 account stop  3 bucket  4 in-flight  5 index of targets  6 index of counters by the moment at which
--       they are forgotten  7.. budget counters, each named once  and last, where ARGV 12 says so, the rates and the
--       calls in flight of a tenant
-- ARGV  1 epoch  2 attempt id  3 lane 1..4  4 tokens  5 cost  6 lifetime us  7 waited us  8 ticket 0|1  9 horizon us
--       10 target  11 clock (tests)  12 share of the tenant: '' or 'requests a minute, tokens a minute, calls in
--       flight (0 none), ticket of the share 0|1' with spaces between  then per counter: limit, seconds to keep, pace (''
--       or 'start us, end us, part ahead', likewise)
-- Reply {1, wait us, stamp} | {0, wait us, reason} | {-1, reason, detail}
-- Invariants: settled + reserved + cost <= limit in every counter, or nothing is written; a pace only ever lowers the
-- limit, and what is spent for good is told before what is only ahead of its pace; every check comes before the first
-- write; a refusal writes nothing but a ticket and a hold; who waits for the share of a tenant draws no ticket of the
-- bucket, and who waits for the bucket none of the share; money and moments never pass through tostring.
local lane, tokens, ticket = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[8] == '1'
local waited, horizon = tonumber(ARGV[7]), tonumber(ARGV[9])
local REASON = {'requests_per_minute', 'tokens_per_minute', 'requests_per_day', 'tokens_per_day', 'in_flight', 'frozen'}
local IN_FLIGHT, FROZEN_REASON, HOLD_MARGIN = 5, 6, 300000

local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
if not held[1] then return {-1, 'not_ready', ''} end
if held[1] ~= ARGV[1] then return {-1, 'stale_epoch', held[1]} end
if held[2] then return {-1, 'account_stopped', held[2]} end

-- A request that even a full minute or day cannot hold is told so at once, whatever else is exhausted.
local at = clock(ARGV[11])
local b, now = open_bucket(held[3], at)
if tokens * interval(b, 2) > MINUTE + 0.5 or tokens * interval(b, 4) > DAY + 0.5 then
  return {-1, 'too_large', ''}
end
local shared, limits = ARGV[12] ~= '', nil
if shared then
  local requests, a_minute, calls, has_ticket = string.match(ARGV[12], '(%d+) (%d+) (%d+) (%d)')
  limits = {
    rates = {tonumber(requests), tonumber(a_minute)}, calls = tonumber(calls), has_ticket = has_ticket == '1',
  }
  if limits.rates[2] > 0 and tokens > limits.rates[2] then return {-1, 'tenant_too_large', ''} end
end

-- Money. Doubles are exact to 2^53; beyond, the comparison keeps a margin, and changes are always decimal strings.
local counters, known, paced, opens = #KEYS - (shared and 8 or 6), {}, 0, 0
for j = 1, counters do
  local v = redis.call('HMGET', KEYS[6 + j], 'l', 's', 'r')
  local limit = tonumber(v[1] or ARGV[10 + 3 * j])
  local margin = limit > 9007199254740992 and 4096 or 0
  local wanted = (v[2] or 0) + (v[3] or 0) + tonumber(ARGV[5]) + margin
  if wanted > limit then return {-1, 'budget', tostring(j - 1)} end
  if ARGV[12 + 3 * j] ~= '' then
    local starts, ends, ahead = string.match(ARGV[12 + 3 * j], '(%S+) (%S+) (%S+)')
    local at = starts + (wanted / limit - ahead) * (ends - starts)
    if at > now and at > opens then paced, opens = j, at end
  end
  known[j] = v[3]
end
if paced > 0 then return {-1, 'pace', string.format('%d %.0f', paced - 1, opens - now)} end

local k = {}
for d = 1, 4 do k[d] = (d % 2 == 1 and 1 or tokens) * paced_interval(b, d, now) end
local dominant = k[1] > k[2] and k[1] or k[2]

-- The floor of a lane is the part of the burst that it leaves to those above; age lowers it by one lane, never to 0.
local floor = b[FLOOR + lane]
if lane == 3 and waited > 30 * SECOND then floor = b[FLOOR + 2] end
if lane == 4 and waited > 60 * SECOND then floor = b[FLOOR + 3] end

-- The share of the tenant over all targets. It says when, and nobody else stands further behind for that.
local share, owed
if shared then
  share = share_of_tenants()
  local call = {lane = lane, tokens = tokens, floor = floor, at = at, now = now}
  local delay, answer = share.ask(KEYS[#KEYS - 1], KEYS[#KEYS], limits, call)
  if delay then return {0, micros(delay), answer} end
  owed = answer
end

-- A future grant deeper than the floor would push the level below what critical needs; half of it is always kept.
if horizon > floor * b[BURST] / 2 then horizon = floor * b[BURST] / 2 end
-- A newcomer stands behind ticket holders unless the bucket shows surplus.
if lane > 1 and not ticket and b[TICKET + lane] > now and floor < 0.5 then floor = 0.5 end
local hold = 0
if b[HELD_UNTIL] > now and lane >= b[HELD_LANE] and tokens < b[HELD_TOKENS] then
  hold = b[HELD_TOKENS] * paced_interval(b, 2, now)
end

-- wait respects floors and holds, bare ignores them. A request larger than the room waits for a full bucket and
-- then goes into debt; the room leaves the lowest lane's floor out, so that critical still comes before low.
local wait, bare, why = 0, 0, 0
for d = 1, 4 do
  if k[d] > 0 then
    local burst = burst_of(b, d)
    local room = d <= 2 and burst * (1 - b[FLOOR + 4]) or burst
    local need = k[d] < room and k[d] or room
    local lacks = behind(b, d, now)
    local mended = mended_in(b, d, lacks + need, now)
    if mended > bare then bare = mended end
    if d <= 2 then
      need = need + floor * burst
      if need > burst then need = burst end
      if d == 2 then need = need + hold end
      mended = lacks + need
    end
    if mended > wait then wait, why = mended, d end
  end
end
if b[FROZEN_UNTIL] - now > wait then wait, why = b[FROZEN_UNTIL] - now, FROZEN_REASON end
if b[FROZEN_UNTIL] - now > bare then bare = b[FROZEN_UNTIL] - now end

-- The guaranteed share ignores the floor, not the bucket. What it shortens is the retry, never the grant test.
local granted, by_share, retry = wait <= horizon, false, wait
if not granted and b[SHARE + lane] > 0 and lane > 1 then
  if b[SHARE_TAT + lane] <= now and bare <= 0 then
    granted, by_share, wait = true, true, 0
  else
    local sooner = b[SHARE_TAT + lane] - now
    if bare > sooner then sooner = bare end
    if sooner < retry then retry = sooner end
  end
end

if b[MAX_IN_FLIGHT] > 0 then
  local slots = b[MAX_IN_FLIGHT]
  if lane > 1 then slots = slots - math.floor(slots * CRITICAL_SLOTS) end
  if redis.call('ZCARD', KEYS[4]) >= slots then
    granted = false
    if retry <= b[PACE] then retry, why = b[PACE], IN_FLIGHT end
  end
end

if not granted then
  local spacing = k[why] or dominant
  if why == IN_FLIGHT then spacing = b[PACE] end
  local slot = now + retry
  -- A large request whose turn it was gets room held, and comes back within that time: behind the lane's tickets it
  -- would come too late and be overtaken for ever. A newcomer gets no room held, or it would pass those who wait.
  local large = why == 2 and dominant > 0.1 * b[BURST]
  if ticket and large and (b[HELD_UNTIL] <= now or lane < b[HELD_LANE]) then
    b[HELD_UNTIL], b[HELD_TOKENS], b[HELD_LANE] = slot + HOLD_MARGIN, tokens, lane
  elseif b[TICKET + lane] > slot then
    slot = b[TICKET + lane]
  end
  if slot + spacing > b[TICKET + lane] then b[TICKET + lane] = slot + spacing end
  save_bucket(KEYS[3], b)
  return {0, micros(slot - now), REASON[why]}
end

if wait < 0 then wait = 0 end
for j = 1, counters do
  redis.call('HINCRBY', KEYS[6 + j], 'r', ARGV[5])
  if not known[j] then
    redis.call('EXPIRE', KEYS[6 + j], ARGV[11 + 3 * j])
    redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', string.format('%.0f', now))
    redis.call('ZADD', KEYS[6], string.format('%.0f', now + ARGV[11 + 3 * j] * SECOND), KEYS[6 + j])
  end
end
for d = 1, 4 do
  if k[d] > 0 then charge(b, d, k[d], now) end
end
-- What critical takes is not there for those who wait: the slots that are still to be drawn lie so much later.
if lane == 1 then
  for l = 2, 4 do
    if b[TICKET + l] > now then b[TICKET + l] = b[TICKET + l] + dominant end
  end
end
if by_share then
  local since = b[SHARE_TAT + lane]
  if since < now - SHARE_MEMORY then since = now - SHARE_MEMORY end
  b[SHARE_TAT + lane] = since + dominant / b[SHARE + lane]
end
if b[HELD_UNTIL] > now and tokens >= b[HELD_TOKENS] then b[HELD_UNTIL] = 0 end
b[ADMITTED_REQUESTS], b[ADMITTED_TOKENS] = b[ADMITTED_REQUESTS] + 1, b[ADMITTED_TOKENS] + tokens
local minutes = math.floor((now - b[MINUTE_AT]) / MINUTE)
if minutes >= 1 then
  b[BEFORE_REQUESTS] = minutes == 1 and b[MINUTE_REQUESTS] or 0
  b[BEFORE_TOKENS] = minutes == 1 and b[MINUTE_TOKENS] or 0
  b[MINUTE_AT], b[MINUTE_REQUESTS], b[MINUTE_TOKENS] = b[MINUTE_AT] + minutes * MINUTE, 0, 0
end
b[MINUTE_REQUESTS], b[MINUTE_TOKENS] = b[MINUTE_REQUESTS] + 1, b[MINUTE_TOKENS] + tokens
if not held[3] then redis.call('SADD', KEYS[5], ARGV[10]) end
local stamp = string.format('%s|%d|%s|%.0f|%.0f|%.0f|%.0f', ARGV[2], tokens, ARGV[5], now + wait,
  b[ADMITTED_REQUESTS], b[ADMITTED_TOKENS], b[REFUNDED_TOKENS])
redis.call('ZADD', KEYS[4], string.format('%.0f', now + ARGV[6]), stamp)
save_bucket(KEYS[3], b)
if shared then share.grant(KEYS[#KEYS - 1], KEYS[#KEYS], owed, stamp, now, tonumber(ARGV[6])) end
return {1, micros(wait), stamp}
