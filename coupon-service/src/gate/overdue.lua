-- Admissions whose request nobody confirmed for a while, the oldest first.
--
-- KEYS: state, tokens, pending
-- ARGV: the run id of this Redis, the age in microseconds, how many at most
-- Answers users and tokens by turns; {} also when the gate is lost.
if redis.call('HGET', KEYS[1], 'run_id') ~= ARGV[1] then return {} end
local time = redis.call('TIME')
local until_then = string.format('%.0f', time[1] * 1000000 + time[2] - ARGV[2])
local users = redis.call('ZRANGE', KEYS[3], '-inf', until_then, 'BYSCORE', 'LIMIT', 0, ARGV[3])
local answer = {}
for _, user in ipairs(users) do
  local token = redis.call('HGET', KEYS[2], user)
  if token then
    answer[#answer + 1] = user
    answer[#answer + 1] = token
  else
    redis.call('ZREM', KEYS[3], user)
  end
end
return answer
