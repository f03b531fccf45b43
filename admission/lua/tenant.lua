-- The share of a tenant: may a call start, what it costs, what comes back. No key is named here. Stands inside one
-- function, so that a call of a tenant without limits pays for none of it; returns what the scripts use.
-- Unit: microseconds of refill, as in a bucket; vectors are indexed VECTOR + 1 requests, + 2 tokens, or VECTOR + lane.
-- The constants (T_LAST_AT, T_TAT, ...) are written in front of this file by admission/tenants.py.
local TENANT_REASON, TENANT_IN_FLIGHT = {'tenant_requests', 'tenant_tokens', 'tenant_in_flight'}, 3

-- State and clamped time; nil raw owes nothing. A step back of the clock beyond a second moves every moment with it.
local function open_tenant(raw, now)
  if not raw then
    local t = {}
    for i = 1, T_SIZE do t[i] = 0 end
    t[T_LAST_AT], t[T_SETTLED_AT], t[T_PACE] = now, now, T_NEW_PACE
    return t, now
  end
  local t = {struct.unpack(T_FORMAT, raw)}
  t[T_SIZE + 1] = nil
  local step = now - t[T_LAST_AT]
  if step <= -SECOND then
    for _, at in ipairs(T_MOMENTS) do t[at] = t[at] + step end
  elseif step < 0 then
    now = t[T_LAST_AT]
  end
  t[T_LAST_AT] = now
  return t, now
end

-- It is forgotten when it says no more than a new one would.
local function save_tenant(key, t, now)
  local busy = now
  for _, at in ipairs(T_MOMENTS) do
    if t[at] > busy then busy = t[at] end
  end
  redis.call('SET', key, struct.pack(T_FORMAT, unpack(t)), 'EX', math.ceil((busy - now) / SECOND) + T_KEPT)
end

-- Other limits than before tear up the tickets, because these were drawn under those.
local function limit_tenant(t, rates, calls)
  local first, second = rates[1] > 0 and MINUTE / rates[1] or 0, rates[2] > 0 and MINUTE / rates[2] or 0
  if t[T_INTERVAL + 1] ~= first or t[T_INTERVAL + 2] ~= second or t[T_CALLS] ~= calls then
    for lane = 1, 4 do t[T_TICKET + lane] = 0 end
  end
  t[T_INTERVAL + 1], t[T_INTERVAL + 2], t[T_CALLS] = first, second, calls
end

-- How long the share wants a call to wait, why, and what the call costs it. The floor is that of the call's lane: what
-- it leaves to the lanes above. A call that holds a ticket may go into debt from half of a full share, so that smaller
-- ones cannot keep it waiting for ever.
local function tenant_wait(t, now, tokens, floor, has_ticket)
  local wait, why, costs = 0, 0, {0, 0}
  for d = 1, 2 do
    costs[d] = (d == 1 and 1 or tokens) * t[T_INTERVAL + d]
    if costs[d] > 0 then
      local room = T_BURST * (has_ticket and 0.5 or 1 - DEFAULT_FLOORS[4])
      local need = math.min(T_BURST, math.min(costs[d], room) + floor * T_BURST)
      local lacks = t[T_TAT + d] - now - T_BURST + need
      if lacks > wait then wait, why = lacks, d end
    end
  end
  return wait, why, costs
end

-- The moment at which a call that must wait comes back: after those of its lane that wait already.
local function tenant_ticket(t, now, lane, wait, spacing)
  local slot = math.max(now + wait, t[T_TICKET + lane])
  t[T_TICKET + lane] = slot + spacing
  return slot - now
end

local function charge_tenant(t, now, costs)
  for d = 1, 2 do
    if costs[d] > 0 then t[T_TAT + d] = math.max(t[T_TAT + d], now) + costs[d] end
  end
end

-- May a call start now? Wait and reason, with a ticket drawn; or nil, and what its grant will charge.
local function ask(rates_key, in_flight_key, limits, call)
  local t, now = open_tenant(redis.call('GET', rates_key), call.at)
  local floor = call.floor
  limit_tenant(t, limits.rates, limits.calls)
  if call.lane > 1 and not limits.has_ticket and t[T_TICKET + call.lane] > now then floor = math.max(floor, 0.5) end
  local wait, why, costs = tenant_wait(t, now, call.tokens, floor, limits.has_ticket)
  if limits.calls > 0 then
    local slots = call.lane > 1 and limits.calls - math.floor(limits.calls * CRITICAL_SLOTS) or limits.calls
    local under_way = redis.call('ZCOUNT', in_flight_key, string.format('(%.0f', call.now), '+inf')
    if under_way >= slots and wait <= t[T_PACE] then wait, why = t[T_PACE], TENANT_IN_FLIGHT end
  end
  if why == 0 then return nil, {t = t, now = now, costs = costs} end
  local delay = tenant_ticket(t, now, call.lane, wait, costs[why] or t[T_PACE])
  save_tenant(rates_key, t, now)
  return delay, TENANT_REASON[why]
end

-- A call was granted: it is charged, and holds its place until its reservation expires.
local function grant(rates_key, in_flight_key, charge, stamp, now, lifetime)
  charge_tenant(charge.t, charge.now, charge.costs)
  save_tenant(rates_key, charge.t, charge.now)
  redis.call('ZREMRANGEBYSCORE', in_flight_key, '-inf', string.format('%.0f', now))
  redis.call('ZADD', in_flight_key, string.format('%.0f', now + lifetime), stamp)
  redis.call('EXPIRE', in_flight_key, math.ceil(lifetime / SECOND) + T_KEPT)
end

-- A live call has ended. What was not used comes back whole, because the limit is ours and not the provider's; what a
-- provider keeps (`back` is false) does not. A state that was forgotten has nothing to correct.
local function settle(rates_key, at, kind, beyond, back)
  local raw = redis.call('GET', rates_key)
  if not raw then return end
  local t, now = open_tenant(raw, at)
  if beyond > 0 or back then
    t[T_TAT + 2] = t[T_TAT + 2] + beyond * t[T_INTERVAL + 2]
    if kind == 'release' then t[T_TAT + 1] = t[T_TAT + 1] - t[T_INTERVAL + 1] end
  end
  t[T_PACE] = t[T_PACE] + 0.1 * (math.min(now - t[T_SETTLED_AT], SECOND) - t[T_PACE])
  t[T_SETTLED_AT] = now
  save_tenant(rates_key, t, now)
end

return {ask = ask, grant = grant, settle = settle}
