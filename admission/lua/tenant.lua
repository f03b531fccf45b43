-- Shared opening of the scripts that touch a tenant's share: its state, its charge, its tickets. No key is named here.
-- Unit: microseconds of refill, as in a bucket; vectors are indexed VECTOR + 1 requests, + 2 tokens, or VECTOR + lane.
-- The constants (T_LAST_AT, T_TAT, ...) are written in front of this file by admission/tenants.py.
local TENANT_REASON, TENANT_IN_FLIGHT = {'tenant_requests', 'tenant_tokens', 'tenant_in_flight'}, 3

-- State and clamped time; nil raw owes nothing. A step back of the clock beyond a second moves every moment with it.
local function open_tenant(raw, now)
  if not raw then
    local t = {}
    for i = 1, T_SIZE do t[i] = 0 end
    t[T_LAST_AT], t[T_SETTLED_AT], t[T_PACE] = now, now, 50000
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
