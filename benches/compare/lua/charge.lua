-- Only the charge of a month's budget: KEYS[1] amount seconds. Replies the new total, in floating point.
local total = redis.call('INCRBYFLOAT', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return total
