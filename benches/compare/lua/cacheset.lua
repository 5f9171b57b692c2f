-- Sets an entry of the cache that cacheget.lua reads: KEYS[1] the entry, KEYS[2] the category's counters, seconds, value.
redis.call('HINCRBY', KEYS[2], 'sets', 1)
return redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[1])
