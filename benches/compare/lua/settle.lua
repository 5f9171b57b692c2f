-- Replaces the estimate of what admit.lua admitted, and frees the slot, once: KEYS bucket leases taken, ARGV lease tokens
-- rate burst per_ms.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local rate, burst, per = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local taken = redis.call('HGET', KEYS[3], ARGV[1])
if not taken then
  return 'UNKNOWN'
end
redis.call('HDEL', KEYS[3], ARGV[1])
local in_time = redis.call('ZREM', KEYS[2], ARGV[1])
local state = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = burst
if state[1] then
  level = math.min(burst, tonumber(state[1]) + (now - tonumber(state[2])) * rate / per)
end
level = math.min(burst, level + tonumber(taken) - tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'level', level, 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - level) * per / rate) + 1000)
return in_time == 1 and 'SETTLED' or 'LATE'
