-- Pin the limit of one budget counter, over what asks say.
-- KEYS  1 counter  2 index of counters by the moment at which they are forgotten
-- ARGV  1 limit  2 seconds to keep  3 clock (tests)
-- Reply 1
-- Invariants: settled and reserved stay; thresholds that lie above what is settled may be reported again, because
-- they are thresholds of another limit; those already passed are not.
local settled, limit = tonumber(redis.call('HGET', KEYS[1], 's') or 0), tonumber(ARGV[1])
local bits, bit = 0, 1
for _, percent in ipairs({50, 80, 100}) do
  if settled * 100 >= limit * percent then bits = bits + bit end
  bit = bit * 2
end
local new = redis.call('EXISTS', KEYS[1]) == 0
redis.call('HSET', KEYS[1], 'l', ARGV[1], 'th', bits)
if new then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('ZADD', KEYS[2], string.format('%.0f', clock(ARGV[3]) + ARGV[2] * SECOND), KEYS[1])
end
return 1
