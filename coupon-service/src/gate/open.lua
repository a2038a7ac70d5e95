-- Opens the gate with what was staged, unless it is open in this epoch or a later one.
--
-- KEYS: state, holders, tokens, pending, freed, staged holders, staged freed ranks
-- ARGV: the run id of this Redis, epoch, mode, quantity, opens at, closes at (both in microseconds), last rank,
--   how many holders were staged, how many freed ranks
-- Answers 1 opened, 0 was open, -1 what was staged isn't all there.
local state = redis.call('HMGET', KEYS[1], 'run_id', 'epoch')
if state[1] == ARGV[1] and tonumber(state[2]) >= tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[6], KEYS[7])
  return 0
end
if redis.call('SCARD', KEYS[6]) ~= tonumber(ARGV[8]) or redis.call('ZCARD', KEYS[7]) ~= tonumber(ARGV[9]) then
  redis.call('DEL', KEYS[6], KEYS[7])
  return -1
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
if ARGV[8] ~= '0' then redis.call('RENAME', KEYS[6], KEYS[2]) end
if ARGV[9] ~= '0' then redis.call('RENAME', KEYS[7], KEYS[5]) end
redis.call('HSET', KEYS[1], 'run_id', ARGV[1], 'epoch', ARGV[2], 'mode', ARGV[3], 'quantity', ARGV[4],
  'opens_at', ARGV[5], 'closes_at', ARGV[6], 'last_rank', ARGV[7], 'released', 0)
return 1
