-- The truth replaces a reservation, exactly once per stamp.
-- KEYS  1 bucket  2 in-flight  3 suspense  4 stream of budget events  5.. budget counters
--       and last, where ARGV 13 says so, the rates and the calls in flight of a tenant
-- ARGV  1 stamp  2 post|release|suspend  3 actual tokens  4 actual cost  5 permits come back 0|1
--       6 requests: dimension 1|3  7 remaining or ''  8 limit or ''
--       9 tokens: dimension 2|4  10 remaining or ''  11 limit or ''
--       12 clock (tests)  13 the stamp is of a tenant with a share 0|1  then per counter: limit, scope, window
-- Reply 1 settled | 0 duplicate or unknown
-- Invariants: money moves only together with the removal of the stamp; reserved falls by what the stamp says, never
-- by what the caller says; headers only ever lower the level; each threshold of a counter's limit is reported once;
-- a counter that was forgotten with its window stays forgotten.
local tokens, cost, t_k, requests_k, tokens_k, refunded_k =
  string.match(ARGV[1], '|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)$')
if not tokens then return 0 end
t_k, requests_k, tokens_k, refunded_k = tonumber(t_k), tonumber(requests_k), tonumber(tokens_k), tonumber(refunded_k)
local at = clock(ARGV[12])
local b, now = open_bucket(redis.call('GET', KEYS[1]), at)
local shared = ARGV[13] == '1'
local reserved, kind = tonumber(tokens), ARGV[2]

if kind == 'suspend' then
  if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
  redis.call('ZADD', KEYS[3], string.format('%.0f', now), ARGV[1])
  if shared then redis.call('ZREM', KEYS[#KEYS], ARGV[1]) end
  return 1
end
local live = redis.call('ZREM', KEYS[2], ARGV[1]) == 1
if not live and redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then return 0 end
if shared then redis.call('ZREM', KEYS[#KEYS], ARGV[1]) end

local function report_crossings(key, at, settled, pinned, passed)
  local limit, bits, bit = tonumber(pinned or ARGV[at]), tonumber(passed or 0), 1
  local had = bits
  for _, percent in ipairs({50, 80, 100}) do
    if math.floor(bits / bit) % 2 == 0 and settled * 100 >= limit * percent then
      bits = bits + bit
      redis.call('XADD', KEYS[4], 'MAXLEN', '~', '10000', '*', 'scope', ARGV[at + 1], 'window', ARGV[at + 2],
        'percent', percent, 'limit', pinned or ARGV[at])
    end
    bit = bit * 2
  end
  if bits ~= had then redis.call('HSET', key, 'th', bits) end
end

for j = 5, shared and #KEYS - 2 or #KEYS do
  local v = redis.call('HMGET', KEYS[j], 'r', 'l', 'th')
  if v[1] and cost ~= '0' then redis.call('HINCRBY', KEYS[j], 'r', '-' .. cost) end
  if v[1] and kind == 'post' and ARGV[4] ~= '0' then
    report_crossings(KEYS[j], 14 + (j - 5) * 3, redis.call('HINCRBY', KEYS[j], 's', ARGV[4]), v[2], v[3])
  end
end
if not live then return 1 end

if shared then
  local beyond = kind == 'post' and ARGV[3] - reserved or -reserved
  share_of_tenants().settle(KEYS[#KEYS - 1], at, kind, beyond, ARGV[5] == '1')
end

-- Permits: what was not used comes back as far as this provider gives it back; what was used beyond is owed.
local back = ARGV[5] == '1'
if kind == 'release' and back then
  for d = 1, 4 do correct(b, d, -(d % 2 == 1 and 1 or reserved) * interval(b, d)) end
  b[ADMITTED_REQUESTS] = math.max(0, b[ADMITTED_REQUESTS] - 1)
  b[ADMITTED_TOKENS] = math.max(0, b[ADMITTED_TOKENS] - reserved)
elseif kind == 'post' then
  local beyond = ARGV[3] - reserved
  local part = 1
  if beyond < 0 then
    part = b[REFUND_FIXED] >= 0 and b[REFUND_FIXED] or b[REFUND_SHARE]
    if back then b[REFUNDED_TOKENS] = b[REFUNDED_TOKENS] - beyond else part = 0 end
  end
  correct(b, 2, beyond * part * interval(b, 2))
  correct(b, 4, beyond * part * interval(b, 4))
end
local gap = math.min(now - b[LAST_SETTLED_AT], SECOND)
b[PACE], b[LAST_SETTLED_AT] = b[PACE] + 0.1 * (gap - b[PACE]), now

-- Three equal readings in a row make a limit learned, whichever way it moved.
local function vote(d, limit)
  if limit == b[VOTE + d] then b[VOTES + d] = b[VOTES + d] + 1 else b[VOTE + d], b[VOTES + d] = limit, 1 end
  if b[VOTES + d] >= 3 then b[LEARNED + d] = PERIOD[d] / limit end
end

-- Does this provider give unused tokens back? Compare two of its own readings with what we admitted and settled
-- between them; the part of our refunds that shows up in its remaining count is the share to trust. A bucket that is
-- full hides what comes back: where it is full although ours is not, we trust a little more and look again.
local function learn_refund(remaining, limit)
  local i, given = interval(b, 2), refunded_k - b[SAMPLE_REFUNDED]
  if b[SAMPLE_AT] > 0 and t_k > b[SAMPLE_AT] and t_k - b[SAMPLE_AT] <= MINUTE then
    if given * i < 2 * SECOND then return end
    local share = (remaining - b[SAMPLE_REMAINING] - (t_k - b[SAMPLE_AT]) / i + (tokens_k - b[SAMPLE_ADMITTED])) / given
    if limit - remaining > 2 * reserved then
      b[REFUND_SHARE] = b[REFUND_SHARE] + 0.5 * (math.max(0, math.min(1, share)) - b[REFUND_SHARE])
    elseif b[TAT + 2] - now > b[BURST] / 2 then
      b[REFUND_SHARE] = math.min(1, b[REFUND_SHARE] + 0.1)
    end
  elseif b[SAMPLE_AT] > 0 and t_k <= b[SAMPLE_AT] then
    return
  end
  b[SAMPLE_AT], b[SAMPLE_REMAINING] = t_k, remaining
  b[SAMPLE_ADMITTED], b[SAMPLE_REFUNDED] = tokens_k, refunded_k
end

-- The header is what the provider held when it admitted call k: add the refill since, take off what we admitted after.
local function lower_to(d, remaining, since)
  local i = interval(b, d)
  if i == 0 then return end
  local burst = burst_of(b, d)
  local level = remaining * i - since * i
  if not ends_at_hour(b, d) then level = level + now - t_k end
  if level < -burst then level = -burst end
  local full = ends_at_hour(b, d) and b[DAY_ENDS + 1] or now + burst
  if level < burst and full - level > b[TAT + d] then b[TAT + d] = full - level end
end

local same_life = t_k >= b[BORN_AT] and t_k <= now and requests_k <= b[ADMITTED_REQUESTS] + 1
if ARGV[8] ~= '' then vote(tonumber(ARGV[6]), tonumber(ARGV[8])) end
if ARGV[11] ~= '' then vote(tonumber(ARGV[9]), tonumber(ARGV[11])) end
if same_life and ARGV[7] ~= '' then
  lower_to(tonumber(ARGV[6]), tonumber(ARGV[7]), math.max(0, b[ADMITTED_REQUESTS] - requests_k))
end
if same_life and ARGV[10] ~= '' then
  if ARGV[9] == '2' and ARGV[11] ~= '' and interval(b, 2) > 0 then
    learn_refund(tonumber(ARGV[10]), tonumber(ARGV[11]))
  end
  local part = b[REFUND_FIXED] >= 0 and b[REFUND_FIXED] or b[REFUND_SHARE]
  local since = b[ADMITTED_TOKENS] - tokens_k - part * (b[REFUNDED_TOKENS] - refunded_k)
  lower_to(tonumber(ARGV[9]), tonumber(ARGV[10]), math.max(0, since))
end
save_bucket(KEYS[1], b)
return 1
