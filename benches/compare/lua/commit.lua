-- Charges a hold that reserve.lua made, once: its KEYS, and KEYS[4] the mark that it was charged; ARGV id, actual, seconds
-- to remember it. Replies changed, the new total.
local id = ARGV[1]
if not redis.call('SET', KEYS[4], ARGV[2], 'NX', 'EX', ARGV[3]) then
  return {0, redis.call('GET', KEYS[1])}
end
local estimate = redis.call('HGET', KEYS[3], id)
if estimate then
  redis.call('HINCRBYFLOAT', KEYS[3], 'held', '-' .. estimate)
  redis.call('HDEL', KEYS[3], id)
  redis.call('ZREM', KEYS[2], id)
end
return {1, redis.call('INCRBYFLOAT', KEYS[1], ARGV[2])}
