-- Decides who gets in: everybody who is in ARGV, in that order, at one moment.
--
-- KEYS: state, holders, tokens, pending, freed
-- ARGV: the run id of this Redis, then user, request id and traceparent of each who asks
-- Answers {} when the gate is lost, else {epoch, now in microseconds, a verdict for each …}: the rank he is
-- admitted under (0 in set mode), -1 he asked before, -2 sold out, -3 not open yet, -4 closed.
local state = redis.call('HMGET', KEYS[1], 'run_id', 'epoch', 'mode', 'quantity', 'opens_at', 'closes_at', 'last_rank')
if state[1] ~= ARGV[1] then return {} end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local time_text = string.format('%.0f', now)
local ranked = state[3] == 'ranked'
local quantity = tonumber(state[4])
local early = now < tonumber(state[5])
local late = now >= tonumber(state[6])
local taken = ranked and tonumber(state[7]) or redis.call('SCARD', KEYS[2])
local freed = ranked and redis.call('ZCARD', KEYS[5]) or 0

local answer = {tonumber(state[2]), now}
for i = 2, #ARGV, 3 do
  local user = ARGV[i]
  local verdict
  if redis.call('SISMEMBER', KEYS[2], user) == 1 then
    verdict = -1
  elseif early then
    verdict = -3
  elseif late then
    verdict = -4
  elseif taken >= quantity and freed == 0 then
    verdict = -2
  else
    local rank = ''
    if freed > 0 then
      rank = redis.call('ZPOPMIN', KEYS[5])[1]
      freed = freed - 1
    elseif ranked then
      taken = redis.call('HINCRBY', KEYS[1], 'last_rank', 1)
      rank = taken
    else
      taken = taken + 1
    end
    verdict = ranked and tonumber(rank) or 0
    redis.call('SADD', KEYS[2], user)
    redis.call('HSET', KEYS[3], user,
      ARGV[i + 1] .. '|' .. rank .. '|' .. state[2] .. '|' .. time_text .. '|' .. ARGV[i + 2])
    redis.call('ZADD', KEYS[4], time_text, user)
  end
  answer[#answer + 1] = verdict
end
return answer
