-- A cache that counts its hits and misses: KEYS[1] the entry, KEYS[2] the category's counters.
local value = redis.call('GET', KEYS[1])
redis.call('HINCRBY', KEYS[2], value and 'hits' or 'misses', 1)
return value
