-- A month's budget as a counter, in the one script that keeps it race-free: KEYS[1] budget amount seconds.
-- Checks, adds and expires. Replies admitted, spent.
local spent = tonumber(redis.call('GET', KEYS[1]) or '0')
if spent + tonumber(ARGV[2]) > tonumber(ARGV[1]) then
  return {0, tostring(spent)}
end
local total = redis.call('INCRBYFLOAT', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {1, total}
