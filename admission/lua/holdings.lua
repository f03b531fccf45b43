-- All stamps and the named counters, of one moment: what an audit compares with Postgres.
-- KEYS  1 epoch  2 suspense  3.. in-flight of every target, then counters
-- ARGV  1 how many of the keys are in-flight
-- Reply {epoch or '', {stamp...}, {{settled, reserved} or {} for a counter that is not there, ...}}
-- Invariant: reads only.
local targets, stamps, money = tonumber(ARGV[1]), {}, {}
for j = 2, 2 + targets do
  for _, stamp in ipairs(redis.call('ZRANGE', KEYS[j], 0, -1)) do stamps[#stamps + 1] = stamp end
end
for j = 3 + targets, #KEYS do
  local v = redis.call('HMGET', KEYS[j], 's', 'r')
  money[#money + 1] = (v[1] or v[2]) and {v[1] or '0', v[2] or '0'} or {}
end
return {redis.call('GET', KEYS[1]) or '', stamps, money}
