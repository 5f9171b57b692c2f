-- A sliding window as a sorted set, the usual way: KEYS[1] limit window_ms.
-- Replies allowed, limit, remaining, retry_after_ms, reset_after_ms, as GW.ALLOW does.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
if used >= limit then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  return {0, limit, 0, tonumber(oldest[2]) + window - now, tonumber(newest[2]) + window - now}
end
-- Each request is a member of its own, even within the same microsecond.
redis.call('ZADD', KEYS[1], now, time[1] .. '.' .. time[2] .. '.' .. used)
redis.call('PEXPIRE', KEYS[1], window)
return {1, limit, limit - used - 1, 0, window}
