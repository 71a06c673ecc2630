"""What runs inside Redis for the limits: each script is one step that nothing comes between, by Redis' own clock.

Of a key there are: its windows (`W`, sums by limit and second, and how far the clock has come), its reservations (`R`, by
when they expire, in milliseconds), what it has spent of its quotas (`Q`), what was settled since the ledger's sums were read
(`P`, by process and the ledger's number there), and the numbers up to which those sums have it already (`M`, by process). Of
all processes: when each was last heard of (`H`), and up to which number its rows are in the sums (`V`). `L`
is the lease of who reads the sums.

Redis' clock can be set back; the clock of a key's windows cannot: it goes on from where it was, by an offset. What nobody
touches is forgotten, and what is missing begins anew: windows at nothing, quotas at the ledger's sums.
"""

from __future__ import annotations

from rerankd.reservations import DAY, SPAN

KEPT = DAY * 1000
"""Milliseconds for which what was spent is remembered without the ledger being asked, in case that is away."""
MOST_SETTLED = 2000
"""Of one key, kept one by one; more are put together, which counts them a little longer and never shorter."""

CLOCK = """
local time = redis.call('TIME')
local wall = tonumber(time[1])
local function whole(number) return string.format('%.0f', number) end
local function get(key, field) return tonumber(redis.call('HGET', key, field) or 0) end
"""

CALENDAR = """
-- The day of UTC and its month, counted from 1970; the month by Hinnant's civil_from_days.
local function date(seconds)
  local day = math.floor(seconds / 86400)
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local from_march = math.floor((5 * of_year + 2) / 153)
  local years = year + era * 400
  return day, years * 12 + from_march
end
-- Where another day has come, its sum begins at nothing, and so may the month's.
local function turn(Q)
  local day, month = date(wall)
  if get(Q, 'on_day') ~= day then
    if get(Q, 'on_month') ~= month then redis.call('HSET', Q, 'month', 0, 'on_month', month) end
    redis.call('HSET', Q, 'day', 0, 'on_day', day, 'seeded', 0)
  end
  return day, month
end
"""

RELEASE = """
local function tokens_of(member) return tonumber(string.match(member, ' (%d+)$')) end
local function give_back(Q, tokens)
  if redis.call('HEXISTS', Q, 'reserved') == 1 then
    redis.call('HSET', Q, 'reserved', whole(math.max(0, get(Q, 'reserved') - tokens)))
  end
end
"""

RESERVE = (
    CLOCK
    + CALENDAR
    + RELEASE
    + f"""
local SPAN, KEPT = {SPAN}, {KEPT}
"""
    + """
local W, R, Q = KEYS[1], KEYS[2], KEYS[3]
local id, lives, quotas, unseeded = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4] == '1'
local most, quota = tonumber(ARGV[5]), {tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])}
local names, limits = {'requests', 'tokens', 'documents'}, {tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])}
local amounts = {1, tonumber(ARGV[12]), tonumber(ARGV[13])}

local now = wall * 1000 + math.floor(tonumber(time[2]) / 1000) + get(W, 'offset')
local last = get(W, 'last')
if now < last then
  redis.call('HINCRBY', W, 'offset', whole(last - now))
  now = last
end
local second = math.floor(now / 1000)
local first = get(W, 'first')
if first == 0 then first = second end
for old = first, math.min(second - SPAN, first + SPAN) do
  for _, name in ipairs(names) do
    local gone = redis.call('HGET', W, name .. old)
    if gone then
      redis.call('HDEL', W, name .. old)
      redis.call('HINCRBY', W, name, -gone)
    end
  end
end
first = math.max(first, second - SPAN + 1)
redis.call('HSET', W, 'last', whole(now), 'first', first)
redis.call('PEXPIRE', W, whole(math.max(redis.call('PTTL', W), lives + SPAN * 1000)))

for _, member in ipairs(redis.call('ZRANGEBYSCORE', R, '-inf', whole(now), 'LIMIT', 0, 1000)) do
  redis.call('ZREM', R, member)
  give_back(Q, tokens_of(member))
end
local running = redis.call('ZCARD', R)
local due = 0
if quotas then
  if unseeded and redis.call('HEXISTS', Q, 'total') == 0 then redis.call('HSET', Q, 'total', 0) end
  if redis.call('HEXISTS', Q, 'total') == 0 then return {'unknown'} end
  turn(Q)
  if running == 0 then redis.call('HSET', Q, 'reserved', 0) end
  local age = wall - get(Q, 'seeded')
  if age < 0 or age >= tonumber(ARGV[14]) then due = 1 end
end

local blocked = {}
for place, name in ipairs(names) do
  local room, used = limits[place] - amounts[place], get(W, name)
  if limits[place] >= 0 and used > room then
    local freed = first
    for from = first, second do
      used = used - get(W, name .. from)
      freed = from
      if used <= room then break end
    end
    table.insert(blocked, name)
    table.insert(blocked, (freed + SPAN) * 1000 - now)
  end
end
if most >= 0 and running >= most then
  table.insert(blocked, 'concurrency')
  table.insert(blocked, -1)
end
if quotas then
  for place, period in ipairs({'total', 'month', 'day'}) do
    local used = get(Q, period) + amounts[2]
    if quota[place] >= 0 and used + get(Q, 'reserved') > quota[place] then
      table.insert(blocked, period)
      table.insert(blocked, used <= quota[place] and -1 or -2)
    end
  end
end

if #blocked == 0 then
  for place, name in ipairs(names) do
    if limits[place] >= 0 then
      redis.call('HINCRBY', W, name .. second, amounts[place])
      redis.call('HINCRBY', W, name, amounts[place])
      redis.call('HSET', W, 'newest' .. name, second)
    end
  end
  redis.call('ZADD', R, whole(now + lives), id .. ' ' .. (quotas and amounts[2] or 0))
  redis.call('PEXPIRE', R, whole(math.max(redis.call('PTTL', R), lives + SPAN * 1000)))
  if quotas then
    redis.call('HINCRBY', Q, 'reserved', amounts[2])
    redis.call('PEXPIRE', Q, KEPT)
  end
end
local left = {}
for _, name in ipairs(names) do
  local used = get(W, name)
  table.insert(left, used)
  table.insert(left, used > 0 and (get(W, 'newest' .. name) + SPAN) * 1000 - now or 0)
end
return {'', second, due, blocked, left, wall}
"""
)

SETTLE = (
    CLOCK
    + CALENDAR
    + RELEASE
    + f"""
local KEPT, MOST = {KEPT}, {MOST_SETTLED}
"""
    + """
local W, R, Q, P, M, H, V = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local member, second, estimate, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local quotas, process, sequence = ARGV[5] == '1', ARGV[6], tonumber(ARGV[7])

redis.call('ZADD', H, wall, process)
redis.call('HSET', V, process, ARGV[8])
if redis.call('ZREM', R, member) == 1 then
  give_back(Q, tokens_of(member))
  local field = 'tokens' .. second
  if redis.call('HEXISTS', W, field) == 1 then
    local before = get(W, field)
    local after = math.max(0, before + tokens - estimate)
    redis.call('HSET', W, field, whole(after))
    redis.call('HINCRBY', W, 'tokens', whole(after - before))
  end
end
if not quotas or tokens == 0 then return 0 end
if sequence >= 0 then
  local upto = redis.call('HGET', M, process)
  if upto and sequence <= tonumber(upto) then return 0 end
  local field = process .. ' ' .. whole(sequence)
  if redis.call('HEXISTS', P, field) == 1 then return 0 end
  local day, month = turn(Q)
  local more = tokens
  if redis.call('HLEN', P) >= MOST then
    field = process .. ' more'
    local known = redis.call('HGET', P, field)
    if known then
      local before, number = string.match(known, '^(%d+) (%d+)')
      more, sequence = tokens + tonumber(before), math.max(sequence, tonumber(number))
    end
  end
  redis.call('HSET', P, field, whole(more) .. ' ' .. whole(sequence) .. ' ' .. day .. ' ' .. month)
  redis.call('PEXPIRE', P, KEPT)
end
if redis.call('HEXISTS', Q, 'total') == 1 then
  turn(Q)
  for _, period in ipairs({'total', 'month', 'day'}) do redis.call('HINCRBY', Q, period, whole(tokens)) end
  redis.call('PEXPIRE', Q, KEPT)
end
return 1
"""
)
"""Sent twice, it counts once."""

BEGIN = (
    CLOCK
    + """
local L, V = KEYS[1], KEYS[2]
redis.call('HSET', V, ARGV[3], ARGV[4])
if not redis.call('SET', L, ARGV[1], 'NX', 'PX', ARGV[2]) then return {} end
return {wall, redis.call('HGETALL', V)}
"""
)
"""Takes the lease for reading a key's sums, and notes what is in them: all that is visible now."""

SEED = (
    CLOCK
    + CALENDAR
    + f"""
local KEPT = {KEPT}
"""
    + """
local Q, P, M, L, V = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
if redis.call('GET', L) ~= ARGV[1] then return 0 end
redis.call('DEL', L, M)
local upto = {}
for place = 6, #ARGV, 2 do
  upto[ARGV[place]] = tonumber(ARGV[place + 1])
  redis.call('HSET', M, ARGV[place], ARGV[place + 1])
end
local read_day, read_month = date(tonumber(ARGV[2]))
local day, month = date(wall)
local used = {tonumber(ARGV[3]), 0, 0}
if read_month == month then used[2] = tonumber(ARGV[4]) end
if read_day == day then used[3] = tonumber(ARGV[5]) end
local settled = redis.call('HGETALL', P)
for place = 1, #settled, 2 do
  local process = string.match(settled[place], '^(%S+) ')
  local tokens, number, on_day, on_month = string.match(settled[place + 1], '^(%d+) (%d+) (%d+) (%d+)$')
  local known = upto[process]
  local dead = not known and redis.call('HEXISTS', V, process) == 0
  if dead or (known and tonumber(number) <= known) then
    redis.call('HDEL', P, settled[place])
  else
    used[1] = used[1] + tokens
    if tonumber(on_month) == month then used[2] = used[2] + tokens end
    if tonumber(on_day) == day then used[3] = used[3] + tokens end
  end
end
redis.call('HSET', Q, 'total', whole(used[1]), 'month', whole(used[2]), 'day', whole(used[3]),
  'on_day', day, 'on_month', month, 'seeded', wall)
redis.call('PEXPIRE', Q, KEPT)
if next(upto) then redis.call('PEXPIRE', M, KEPT) end
return 1
"""
)
"""Sets what was spent to the ledger's sums and what they have not yet; for who has the lease alone."""

BEAT = (
    CLOCK
    + """
local H, V = KEYS[1], KEYS[2]
local lately, dead = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZADD', H, wall, ARGV[1])
redis.call('HSET', V, ARGV[1], ARGV[2])
for _, process in ipairs(redis.call('ZRANGE', H, 0, -1)) do
  local seen = tonumber(redis.call('ZSCORE', H, process))
  if seen < wall - dead or seen > wall + lately then redis.call('ZREM', H, process) end
end
for _, process in ipairs(redis.call('HKEYS', V)) do
  if not redis.call('ZSCORE', H, process) then redis.call('HDEL', V, process) end
end
return redis.call('ZCOUNT', H, wall - lately, '+inf')
"""
)
"""Says that a process is alive, forgets those that were not heard of for long, and counts those that were lately."""
