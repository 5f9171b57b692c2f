-- One of several deployments, each with requests and tokens a minute and requests in flight: picks one that admits the
-- request, and charges it. KEYS window bucket leases taken, for each; ARGV lease ttl_ms tokens limit window_ms rate burst
-- per_ms max, as in admit.lua, and FIRST, ROOM or FAST. The bucket's hash has the deployment's latency.
-- Replies the window of the one that was picked, or nil, and retry_after_ms.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease, ttl, tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, window = tonumber(ARGV[4]), tonumber(ARGV[5])
local rate, burst, per, max = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local pick = ARGV[10]
-- The same request again: nothing more to charge.
for i = 1, #KEYS, 4 do
  redis.call('ZREMRANGEBYSCORE', KEYS[i + 2], '-inf', now)
  if redis.call('ZSCORE', KEYS[i + 2], lease) then
    return {KEYS[i], 0}
  end
end
local best, best_level, best_value, shortest
for i = 1, #KEYS, 4 do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - window)
  local used = redis.call('ZCARD', KEYS[i])
  local state = redis.call('HMGET', KEYS[i + 1], 'level', 'at', 'latency')
  local level = burst
  if state[1] then
    level = math.min(burst, tonumber(state[1]) + (now - tonumber(state[2])) * rate / per)
  end
  local held = redis.call('ZCARD', KEYS[i + 2])
  local retry = 0
  if used >= limit then
    local oldest = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
    retry = math.max(retry, tonumber(oldest[2]) + window - now)
  end
  if level < tokens then
    retry = math.max(retry, math.ceil((tokens - level) * per / rate))
  end
  if held >= max then
    local first = redis.call('ZRANGE', KEYS[i + 2], 0, 0, 'WITHSCORES')
    retry = math.max(retry, tonumber(first[2]) - now)
  end
  if retry > 0 then
    shortest = math.min(shortest or retry, retry)
  else
    local value = 0
    if pick == 'ROOM' then
      value = -math.min((limit - used) / limit, level / burst, (max - held) / max)
    elseif pick == 'FAST' then
      value = (tonumber(state[3]) or 0) * (held + 1)
    end
    if not best or value < best_value then
      best, best_level, best_value = i, level, value
    end
    if pick == 'FIRST' then
      break
    end
  end
end
if not best then
  return {false, shortest}
end
local level = best_level - tokens
redis.call('ZADD', KEYS[best], now, lease)
redis.call('PEXPIRE', KEYS[best], window)
redis.call('HSET', KEYS[best + 1], 'level', level, 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[best + 1], math.ceil((burst - level) * per / rate) + 1000)
redis.call('ZADD', KEYS[best + 2], now + ttl, lease)
redis.call('PEXPIRE', KEYS[best + 2], ttl)
redis.call('HSET', KEYS[best + 3], lease, tokens)
return {KEYS[best], 0}
