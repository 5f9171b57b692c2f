-- Only the check of a month's budget: KEYS[1] budget. Replies within, budget, spent, remaining.
local spent = redis.call('GET', KEYS[1]) or '0'
local budget = tonumber(ARGV[1])
local remaining = budget - tonumber(spent)
return {remaining > 0 and 1 or 0, ARGV[1], spent, tostring(math.max(remaining, 0))}
