-- Closes the books on admissions, each only while the user's token is still that of the request.
--
-- KEYS: state, holders, tokens, pending, freed
-- ARGV: user, request id, what came of it and the rank he holds (or '') of each. What came of it:
--   issued   he holds the coupon by this request
--   held     he holds it by another: the rank of this one is free, unless it is the same
--   free     he gets none: he may ask again, and his slot is free
--   burnt    he gets none, and his rank is somebody else's: he may ask again, the rank isn't free
-- Answers how many slots were freed.
local freed = 0
for i = 1, #ARGV, 4 do
  local user, outcome = ARGV[i], ARGV[i + 2]
  local token = redis.call('HGET', KEYS[3], user)
  if token and string.sub(token, 1, 36) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[3], user)
    redis.call('ZREM', KEYS[4], user)
    local rank = string.match(token, '|(%d*)|')
    if outcome == 'free' or outcome == 'burnt' then
      redis.call('SREM', KEYS[2], user)
      freed = freed + 1
    end
    if rank ~= '' and (outcome == 'free' or (outcome == 'held' and rank ~= ARGV[i + 3])) then
      redis.call('ZADD', KEYS[5], rank, rank)
      if outcome == 'held' then freed = freed + 1 end
    end
  end
end
if freed > 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'released', freed)
end
return freed
