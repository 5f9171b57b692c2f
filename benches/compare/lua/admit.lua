-- Requests and tokens a minute, and requests in flight, decided together: KEYS window bucket leases taken, ARGV lease
-- ttl_ms tokens limit window_ms rate burst per_ms max.
-- Replies admitted, retry_after_ms, and a row for each: name, allowed, limit, remaining, retry_after_ms, reset_after_ms.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease, ttl, tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, window = tonumber(ARGV[4]), tonumber(ARGV[5])
local rate, burst, per, max = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
-- The same admission again: nothing more to charge.
local again = redis.call('ZSCORE', KEYS[3], lease)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
local state = redis.call('HMGET', KEYS[2], 'level', 'at')
local level = burst
if state[1] then
  level = math.min(burst, tonumber(state[1]) + (now - tonumber(state[2])) * rate / per)
end
local held = redis.call('ZCARD', KEYS[3])
local retry = 0
local requests_allowed, requests_retry = 1, 0
if used >= limit and not again then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  requests_allowed, requests_retry = 0, tonumber(oldest[2]) + window - now
  retry = math.max(retry, requests_retry)
end
local tokens_allowed, tokens_retry = 1, 0
if level < tokens and not again then
  tokens_allowed, tokens_retry = 0, math.ceil((tokens - level) * per / rate)
  retry = math.max(retry, tokens_retry)
end
local held_allowed, held_retry = 1, 0
if held >= max and not again then
  local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  held_allowed, held_retry = 0, tonumber(first[2]) - now
  retry = math.max(retry, held_retry)
end
local admitted = requests_allowed * tokens_allowed * held_allowed
if admitted == 1 and not again then
  redis.call('ZADD', KEYS[1], now, lease)
  redis.call('PEXPIRE', KEYS[1], window)
  level, used, held = level - tokens, used + 1, held + 1
  redis.call('HSET', KEYS[2], 'level', level, 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[2], math.ceil((burst - level) * per / rate) + 1000)
  redis.call('ZADD', KEYS[3], now + ttl, lease)
  redis.call('PEXPIRE', KEYS[3], ttl)
  redis.call('HSET', KEYS[4], lease, tokens)
end
return {admitted, retry, {
  {'rpm', requests_allowed, limit, limit - used, requests_retry, window},
  {'tpm', tokens_allowed, burst, math.floor(level), tokens_retry, math.ceil((burst - level) * per / rate)},
  {'inflight', held_allowed, max, max - held, held_retry, ttl}}}
