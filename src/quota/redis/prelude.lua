-- Shared by all scripts, which are sent as this text followed by their own.
--
-- KEYS[1] is the tree's own key, weir:{ROOT}:tree. Every other key is made from it and so lies in the same hash slot:
--   weir:{ROOT}:EPOCH:n:COUNTER   hash: window or part of one ("start:end") -> what it holds, packed
--   weir:{ROOT}:EPOCH:open        hash: request -> its holds, packed
--   weir:{ROOT}:EPOCH:until       sorted set: request -> when it expires
--   weir:{ROOT}:EPOCH:joined      set: requests registered while the counters were rebuilt
-- An epoch is one life of a tree's counters, from the rebuild until the data is lost.
--
-- ARGV[1] is one MessagePack array: first the epoch that the gateway knows and the latest moment it has seen, in
-- milliseconds, then what the script itself wants. Numbers come as numbers, and every command that is not sent is time saved:
-- a cell is read once and written once, whatever is done to it in between.
--
-- Lua's numbers are doubles, exact up to 2^53. Amounts are pairs: thousands of thousands of millions (whole dollars, for
-- money), and the rest below 10^12 (pico-dollars). Both stay exact; numbers are answered as integers, or printed with %.0f,
-- never by tostring.

local arguments = cmsgpack.unpack(ARGV[1])
local base = string.sub(KEYS[1], 1, -5)
local epoch, latest = arguments[1], arguments[2]
local prefix = base .. epoch .. ':'
local COUNTERS, OPEN, UNTIL = prefix .. 'n:', prefix .. 'open', prefix .. 'until'
local LATE_MS, DAY_MS = 3600000, 86400000
local UNIT = 1e12

local cursor = 2
local function argument()
  cursor = cursor + 1
  return arguments[cursor]
end

local function text(number)
  return string.format('%.0f', number)
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

local ZERO, NONE = { 0, 0 }, {}

local function unpacked(cell)
  local uh, ul, rh, rl, ph, pl = struct.unpack('>dddddd', cell)
  return { used = { uh, ul }, reserved = { rh, rl }, peak = { ph, pl } }
end

-- The cells that this call has met, and those that it has changed.
local cells, changed = {}, {}

local function cell_at(counter, field)
  local name = counter .. '\n' .. field
  local cell = cells[name]
  if cell then return cell end
  local packed = redis.call('HGET', counter, field)
  cell = packed and unpacked(packed) or { used = ZERO, reserved = ZERO, peak = ZERO, is_new = true }
  cell.counter, cell.field = counter, field
  cells[name] = cell
  return cell
end

-- `kept_ms` and `ttl_ms` are needed of a cell that may be new.
local function change(cell, kept_ms, ttl_ms)
  if not cell.is_changed then
    cell.is_changed = true
    changed[#changed + 1] = cell
  end
  cell.kept_ms, cell.ttl_ms = kept_ms or cell.kept_ms, ttl_ms or cell.ttl_ms
end

-- Writes what was changed. A new cell is the moment to drop those that are over, each kept as long again as it lasted, and
-- to say how long the counter is kept. One without windows has one cell for ever, and says so each time.
local function write()
  for _, cell in ipairs(changed) do
    local counter, u, r, p = cell.counter, cell.used, cell.reserved, cell.peak
    if cell.is_new then
      for _, old in ipairs(redis.call('HKEYS', counter)) do
        local finish = tonumber(string.match(old, ':(%-?%d+)$'))
        if finish and cell.kept_ms >= 0 and finish + cell.kept_ms <= latest then redis.call('HDEL', counter, old) end
      end
    end
    redis.call('HSET', counter, cell.field, struct.pack('>dddddd', u[1], u[2], r[1], r[2], p[1], p[2]))
    if cell.ttl_ms and (cell.is_new or cell.kept_ms < 0) then redis.call('PEXPIRE', counter, text(cell.ttl_ms)) end
    cell.is_new, cell.is_changed = nil, nil
  end
  changed = {}
end

-- What a window holds: of a rolling one (kind 'r') the parts that are not wholly older, else the one cell.
-- The last result lists the parts, for finding out when enough of them will have left.
local function sum(counter, kind, window_start, field)
  local own = cell_at(counter, field)
  if kind ~= 'r' then return own.used, own.reserved, own.peak, NONE end
  local used, reserved, peak, parts = ZERO, ZERO, ZERO, {}
  local function add(finish, cell)
    used, reserved = plus(used, cell.used), plus(reserved, cell.reserved)
    if exceeds(cell.peak, peak) then peak = cell.peak end
    parts[#parts + 1] = { finish, plus(cell.used, cell.reserved) }
  end
  local all, has_own = redis.call('HGETALL', counter), false
  for i = 1, #all, 2 do
    local finish = tonumber(string.match(all[i], ':(%-?%d+)$'))
    if finish > window_start then
      add(finish, cells[counter .. '\n' .. all[i]] or unpacked(all[i + 1]))
      has_own = has_own or all[i] == field
    end
  end
  local finish = tonumber(string.match(field, ':(%-?%d+)$'))
  if not has_own and finish > window_start then add(finish, own) end
  return used, reserved, peak, parts
end

-- Gives back what a request's record holds: after its first member, counter, field and amount of each limit in turn. A cell
-- that was dropped meanwhile held nothing that counts; one that came back since never held this.
local function lift(record)
  for i = 2, #record, 4 do
    local cell = cell_at(COUNTERS .. record[i], record[i + 1])
    if not cell.is_new then
      cell.reserved = minus(cell.reserved, { record[i + 2], record[i + 3] })
      if exceeds(ZERO, cell.reserved) then cell.reserved = ZERO end
      change(cell)
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
  if #changed > 0 then write() end
end

-- Requests that are open hold on to their tree for a month from here on, which every renewal says again.
local function keep()
  redis.call('PEXPIRE', OPEN, 30 * DAY_MS)
  redis.call('PEXPIRE', UNTIL, 30 * DAY_MS)
  redis.call('PEXPIRE', KEYS[1], 1200 * DAY_MS)
end

-- Whether this gateway knows the tree's epoch. If not, what it is and how it stands.
local tree = redis.call('HMGET', KEYS[1], 'epoch', 'state')
local state = tree[2] or ''
local function other_epoch()
  return { 'epoch', tree[1] or '', state }
end
