-- A token bucket as a hash: KEYS[1] rate burst per_ms cost.
-- Replies allowed, burst, remaining, retry_after_ms, reset_after_ms, as GW.TOKENS does.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local rate, burst, per, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local state = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = burst
if state[1] then
  level = math.min(burst, tonumber(state[1]) + (now - tonumber(state[2])) * rate / per)
end
if level < cost then
  return {0, burst, math.floor(level), math.ceil((cost - level) * per / rate), math.ceil((burst - level) * per / rate)}
end
level = level - cost
local reset = math.ceil((burst - level) * per / rate)
redis.call('HSET', KEYS[1], 'level', level, 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], reset + 1000)
return {1, burst, math.floor(level), 0, reset}
