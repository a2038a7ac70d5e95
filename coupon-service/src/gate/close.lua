-- Closes a gate that isn't to be trusted: until it is rebuilt it is lost. Only in this epoch.
--
-- KEYS: state
-- ARGV: epoch
if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
