-- Reap reservations whose time ran out. They go to suspense: the provider may have billed them.
-- KEYS  1 in-flight of one target  2 suspense
-- ARGV  1 most to move  2 clock (tests)
-- Reply the stamps moved
-- Invariant: reserved money is not touched here; it counts until somebody who has looked resolves it.
local now = string.format('%.0f', clock(ARGV[2]))
local stamps = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, stamp in ipairs(stamps) do
  redis.call('ZREM', KEYS[1], stamp)
  redis.call('ZADD', KEYS[2], now, stamp)
end
return stamps
