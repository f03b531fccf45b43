-- Count a refusal of an account's key or money; the second job that meets one stops the account.
-- KEYS  1 account stop  2 doubt: job id -> 1 counts, 0 has been counted by a stop
-- ARGV  1 reason  2 job  3 seconds to keep a doubt; what a stop has counted is kept until it is opened
-- Reply 1 the account is stopped | 0 it goes on
-- Invariants: one job alone stops nothing, however often it asks; nor do the jobs that have stopped it before.
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 0 end
local jobs, first = redis.call('HGETALL', KEYS[2]), nil
for i = 1, #jobs, 2 do
  if jobs[i + 1] == '1' then first = jobs[i] end
end
if not first then
  redis.call('HSET', KEYS[2], ARGV[2], '1')
  redis.call('EXPIRE', KEYS[2], ARGV[3])
  return 0
end
redis.call('HSET', KEYS[2], first, '0', ARGV[2], '0')
redis.call('PERSIST', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1])
return 1
