-- What the gate knows of one user.
--
-- KEYS: state, holders, tokens
-- ARGV: the run id of this Redis, the user
-- Answers {} when the gate is lost, else {whether he is in, his token or ''}.
if redis.call('HGET', KEYS[1], 'run_id') ~= ARGV[1] then return {} end
return {redis.call('SISMEMBER', KEYS[2], ARGV[2]), redis.call('HGET', KEYS[3], ARGV[2]) or ''}
