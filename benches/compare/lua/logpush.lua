-- A list that is bounded in records: KEYS[1] max_records record. Replies length and dropped, as GW.LOGPUSH does.
local dropped = 0
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  redis.call('LPOP', KEYS[1])
  dropped = 1
end
return {redis.call('RPUSH', KEYS[1], ARGV[2]), dropped}
