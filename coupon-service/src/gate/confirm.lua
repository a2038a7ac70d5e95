-- Notes that requests are kept by Kafka, or as dead letters: they need not be sent again.
--
-- KEYS: tokens, pending
-- ARGV: user and request id of each
for i = 1, #ARGV, 2 do
  local token = redis.call('HGET', KEYS[1], ARGV[i])
  if token and string.sub(token, 1, 36) == ARGV[i + 1] then
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end
