-- Shared by all scripts, which are sent as this text followed by their own.
--
-- KEYS[1] is the tree's own key, weir:{ROOT}:tree. Every other key is made from it and so lies in the same hash slot:
--   weir:{ROOT}:EPOCH:n:COUNTER   hash: window or part of one ("start:end") -> what it holds
--   weir:{ROOT}:EPOCH:open        hash: request -> its holds, packed
--   weir:{ROOT}:EPOCH:until       sorted set: request -> when it expires
--   weir:{ROOT}:EPOCH:joined      set: requests registered while the counters were rebuilt
-- An epoch is one life of a tree's counters, from the rebuild until the data is lost.
--
-- ARGV[1] is the epoch that the gateway knows, ARGV[2] the latest moment it has seen, in milliseconds.
--
-- Lua's numbers are doubles, exact up to 2^53. Amounts are pairs: thousands of thousands of millions (whole dollars, for
-- money), and the rest below 10^12 (pico-dollars). Both stay exact; numbers are printed with %.0f, never by tostring.

local base = string.sub(KEYS[1], 1, -5)
local epoch, latest = ARGV[1], tonumber(ARGV[2])
local prefix = base .. epoch .. ':'
local OPEN, UNTIL = prefix .. 'open', prefix .. 'until'
local LATE_MS, DAY_MS = 3600000, 86400000
local UNIT = 1e12

local cursor = 2
local function argument()
  cursor = cursor + 1
  return ARGV[cursor]
end

local function text(number)
  return string.format('%.0f', number)
end

local function amount(hi, lo)
  return { tonumber(hi), tonumber(lo) }
end

local function plus(a, b)
  local hi, lo = a[1] + b[1], a[2] + b[2]
  if lo >= UNIT then hi, lo = hi + 1, lo - UNIT end
  return { hi, lo }
end

local function minus(a, b)
  local hi, lo = a[1] - b[1], a[2] - b[2]
  if lo < 0 then hi, lo = hi - 1, lo + UNIT end
  return { hi, lo }
end

local function exceeds(a, b)
  return a[1] > b[1] or (a[1] == b[1] and a[2] > b[2])
end

local ZERO = { 0, 0 }

local function cell_of(packed)
  if not packed then return nil end
  local uh, ul, rh, rl, ph, pl = string.match(packed, '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
  return { used = amount(uh, ul), reserved = amount(rh, rl), peak = amount(ph, pl) }
end

local function empty_cell()
  return { used = ZERO, reserved = ZERO, peak = ZERO }
end

local function put(counter, field, cell)
  local u, r, p = cell.used, cell.reserved, cell.peak
  redis.call('HSET', counter, field, string.format('%.0f %.0f %.0f %.0f %.0f %.0f', u[1], u[2], r[1], r[2], p[1], p[2]))
end

-- What a window holds: of a rolling one (kind 'r') the parts that are not wholly older, else the one cell.
-- The last result lists the parts, for finding out when enough of them will have left.
local function sum(counter, kind, window_start, field)
  if kind ~= 'r' then
    local cell = cell_of(redis.call('HGET', counter, field)) or empty_cell()
    return cell.used, cell.reserved, cell.peak, {}
  end
  local used, reserved, peak, parts = ZERO, ZERO, ZERO, {}
  local all = redis.call('HGETALL', counter)
  for i = 1, #all, 2 do
    local finish = tonumber(string.match(all[i], ':(%-?%d+)$'))
    if finish > window_start then
      local cell = cell_of(all[i + 1])
      used, reserved = plus(used, cell.used), plus(reserved, cell.reserved)
      if exceeds(cell.peak, peak) then peak = cell.peak end
      parts[#parts + 1] = { finish, plus(cell.used, cell.reserved) }
    end
  end
  return used, reserved, peak, parts
end

-- Reads a cell for a change. A new cell is the moment to drop those that are over, each kept as long again as it lasted.
local function cell_for(counter, field, kept_ms)
  local cell = cell_of(redis.call('HGET', counter, field))
  if cell then return cell end
  for _, old in ipairs(redis.call('HKEYS', counter)) do
    local finish = tonumber(string.match(old, ':(%-?%d+)$'))
    if finish and kept_ms >= 0 and finish + kept_ms <= latest then redis.call('HDEL', counter, old) end
  end
  return empty_cell()
end

local function hold(counter, field, kept_ms, ttl_ms, units)
  local cell = cell_for(counter, field, kept_ms)
  cell.reserved = plus(cell.reserved, units)
  put(counter, field, cell)
  redis.call('PEXPIRE', counter, ttl_ms)
end

-- Gives back what a request's record holds. A cell that was dropped meanwhile held nothing that counts.
local function lift(record)
  for i = 2, #record do
    local counter, field = prefix .. 'n:' .. record[i][1], record[i][2]
    local cell = cell_of(redis.call('HGET', counter, field))
    if cell then
      cell.reserved = minus(cell.reserved, amount(record[i][3], record[i][4]))
      put(counter, field, cell)
    end
  end
end

-- Frees what requests hold whose gateway did not renew them. Their records stay for an hour: a late settlement is
-- charged, once. At most a thousand a call, so that no call is long.
local function expire()
  local due = redis.call('ZRANGEBYSCORE', UNTIL, '-inf', text(latest), 'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #due, 2 do
    local id, packed = due[i], redis.call('HGET', OPEN, due[i])
    local record = packed and cmsgpack.unpack(packed)
    if record and record[1] == 0 then
      lift(record)
      redis.call('HSET', OPEN, id, cmsgpack.pack({ 1 }))
      redis.call('ZADD', UNTIL, text(tonumber(due[i + 1]) + LATE_MS), id)
    else
      redis.call('HDEL', OPEN, id)
      redis.call('ZREM', UNTIL, id)
    end
  end
end

-- Whether this gateway knows the tree's epoch. If not, what it is and how it stands.
local tree = redis.call('HMGET', KEYS[1], 'epoch', 'state')
local state = tree[2] or ''
local function other_epoch()
  return { 'epoch', tree[1] or '', state }
end
