-- How the gate stands.
--
-- KEYS: state, holders, tokens, pending, freed
-- ARGV: the run id of this Redis
-- Answers {} when the gate is lost, else {epoch, quantity, closing time, released, last rank, holders, freed ranks,
-- tokens, pending}.
local state = redis.call('HMGET', KEYS[1], 'run_id', 'epoch', 'quantity', 'closes_at', 'released', 'last_rank')
if state[1] ~= ARGV[1] then return {} end
return {
  tonumber(state[2]), tonumber(state[3]), tonumber(state[4]), tonumber(state[5]), tonumber(state[6]),
  redis.call('SCARD', KEYS[2]), redis.call('ZCARD', KEYS[5]), redis.call('HLEN', KEYS[3]), redis.call('ZCARD', KEYS[4]),
}
