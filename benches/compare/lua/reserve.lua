-- A hold against a month's budget, in the one script that keeps it race-free: KEYS[1] spent, KEYS[2] holds by expiry,
-- KEYS[3] their estimates; ARGV id, estimate, budget, time to live in ms. Drops expired holds, and
-- keeps the sum of those that are left. Replies granted, id, budget, spent, held, remaining.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local id, estimate, budget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms)) do
  redis.call('HINCRBYFLOAT', KEYS[3], 'held', '-' .. redis.call('HGET', KEYS[3], expired))
  redis.call('HDEL', KEYS[3], expired)
  redis.call('ZREM', KEYS[2], expired)
end
local spent = tonumber(redis.call('GET', KEYS[1]) or '0')
local held = tonumber(redis.call('HGET', KEYS[3], 'held') or '0')
if spent + held + estimate > budget then
  return {0, false, ARGV[3], tostring(spent), tostring(held), tostring(budget - spent - held)}
end
redis.call('HSET', KEYS[3], id, ARGV[2])
held = tonumber(redis.call('HINCRBYFLOAT', KEYS[3], 'held', ARGV[2]))
redis.call('ZADD', KEYS[2], now_ms + ARGV[4], id)
return {1, id, ARGV[3], tostring(spent), tostring(held), tostring(budget - spent - held)}
