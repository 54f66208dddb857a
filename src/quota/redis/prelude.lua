-- Shared by all scripts, which are sent as this text followed by their own.
--
-- KEYS[1] is the tree's own key, weir:{ROOT}:tree. Every other key is made from it and so lies in the same hash slot:
--   weir:{ROOT}:EPOCH:n:COUNTER   hash: window or part of one ("start:end") -> what it holds, packed
--   weir:{ROOT}:EPOCH:open        hash: request -> its holds, packed
--   weir:{ROOT}:EPOCH:until       sorted set: request -> when it expires
--   weir:{ROOT}:EPOCH:joined      set: requests registered while the counters were rebuilt
--   weir:{ROOT}:EPOCH:built       set: limits whose past is in their counters
-- An epoch is one life of a tree's counters, from the rebuild until the data is lost.
--
-- ARGV[1] is one MessagePack array: first the epoch that the gateway knows and the latest moment it has seen, in
-- milliseconds, then what the script itself wants. Numbers come as numbers, and every command that is not sent is time saved:
-- a cell is read once and written once, whatever is done to it in between.
--
-- Lua's numbers are doubles, exact up to 2^53. Amounts are pairs, high and low: thousands of thousands of millions (whole
-- dollars, for money), and the rest below 10^12 (pico-dollars). Both stay exact; numbers are answered as integers, or printed with %.0f,
-- never by tostring.

local call = redis.call
local arguments = cmsgpack.unpack(ARGV[1])
local base = string.sub(KEYS[1], 1, -5)
local epoch, latest = arguments[1], arguments[2]
local prefix = base .. epoch .. ':'
local COUNTERS, OPEN, UNTIL = prefix .. 'n:', prefix .. 'open', prefix .. 'until'
local BUILT = prefix .. 'built'
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

local function plus(ah, al, bh, bl)
  local hi, lo = ah + bh, al + bl
  if lo >= UNIT then return hi + 1, lo - UNIT end
  return hi, lo
end

local function minus(ah, al, bh, bl)
  local hi, lo = ah - bh, al - bl
  if lo < 0 then return hi - 1, lo + UNIT end
  return hi, lo
end

local function exceeds(ah, al, bh, bl)
  return ah > bh or (ah == bh and al > bl)
end

-- What a counter holds in one field: used (uh, ul), reserved (rh, rl) and peak (ph, pl). Pairs are two numbers everywhere, and
-- no tables: making one costs more than all that is reckoned with it.
local function cell_of(packed)
  local uh, ul, rh, rl, ph, pl = struct.unpack('>dddddd', packed)
  return { uh = uh, ul = ul, rh = rh, rl = rl, ph = ph, pl = pl }
end

-- The cells that this call has met, by their counter's name, those of one counter in a chain; and those that it changed.
local cells, changed = {}, {}

local function cell_met(name, field)
  local cell = cells[name]
  while cell and cell.field ~= field do cell = cell.next end
  return cell
end

local function cell_at(name, field)
  local cell = cell_met(name, field)
  if cell then return cell end
  local counter = COUNTERS .. name
  local packed = call('HGET', counter, field)
  if packed then
    cell = cell_of(packed)
  else
    cell = { uh = 0, ul = 0, rh = 0, rl = 0, ph = 0, pl = 0, is_new = true }
  end
  cell.counter, cell.field, cell.next = counter, field, cells[name]
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
  for i = 1, #changed do
    local cell = changed[i]
    local counter = cell.counter
    if cell.is_new then
      for _, old in ipairs(call('HKEYS', counter)) do
        local finish = tonumber(string.match(old, ':(%-?%d+)$'))
        if finish and cell.kept_ms >= 0 and finish + cell.kept_ms <= latest then call('HDEL', counter, old) end
      end
    end
    local packed = struct.pack('>dddddd', cell.uh, cell.ul, cell.rh, cell.rl, cell.ph, cell.pl)
    call('HSET', counter, cell.field, packed)
    if cell.ttl_ms and (cell.is_new or cell.kept_ms < 0) then call('PEXPIRE', counter, text(cell.ttl_ms)) end
    cell.is_new, cell.is_changed = nil, nil
  end
  changed = {}
end

-- What a window holds, used and reserved and peak: of a rolling one (kind 'r') the parts that are not wholly older, else the
-- one cell. The last result lists the parts, for finding out when enough of them will have left: end, what it holds.
local function sum(name, kind, window_start, field)
  local own = cell_at(name, field)
  if kind ~= 'r' then return own.uh, own.ul, own.rh, own.rl, own.ph, own.pl end
  local uh, ul, rh, rl, ph, pl, parts = 0, 0, 0, 0, 0, 0, {}
  local function add(finish, cell)
    uh, ul = plus(uh, ul, cell.uh, cell.ul)
    rh, rl = plus(rh, rl, cell.rh, cell.rl)
    if exceeds(cell.ph, cell.pl, ph, pl) then ph, pl = cell.ph, cell.pl end
    parts[#parts + 1] = { finish, plus(cell.uh, cell.ul, cell.rh, cell.rl) }
  end
  local all, has_own = call('HGETALL', own.counter), false
  for i = 1, #all, 2 do
    local finish = tonumber(string.match(all[i], ':(%-?%d+)$'))
    if finish > window_start then
      add(finish, cell_met(name, all[i]) or cell_of(all[i + 1]))
      has_own = has_own or all[i] == field
    end
  end
  local finish = tonumber(string.match(field, ':(%-?%d+)$'))
  if not has_own and finish > window_start then add(finish, own) end
  return uh, ul, rh, rl, ph, pl, parts
end

-- Gives back what a request's record holds: after its first member, counter, field and amount of each limit in turn. A cell
-- that was dropped meanwhile held nothing that counts; one that came back since never held this.
local function lift(record)
  for i = 2, #record, 4 do
    local cell = cell_at(record[i], record[i + 1])
    if not cell.is_new then
      local hi, lo = minus(cell.rh, cell.rl, record[i + 2], record[i + 3])
      if hi < 0 then hi, lo = 0, 0 end
      cell.rh, cell.rl = hi, lo
      change(cell)
    end
  end
end

-- Frees what requests hold whose gateway did not renew them. Their records stay for an hour: a late settlement is
-- charged, once. At most a thousand a call, so that no call is long. Says whether any request is open.
local function expire()
  local first = call('ZRANGE', UNTIL, 0, 0, 'WITHSCORES')
  if #first == 0 then return false end
  if tonumber(first[2]) > latest then return true end
  local due = call('ZRANGEBYSCORE', UNTIL, '-inf', text(latest), 'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #due, 2 do
    local id, packed = due[i], call('HGET', OPEN, due[i])
    local record = packed and cmsgpack.unpack(packed)
    if record and record[1] == 0 then
      lift(record)
      call('HSET', OPEN, id, cmsgpack.pack({ 1 }))
      call('ZADD', UNTIL, text(tonumber(due[i + 1]) + LATE_MS), id)
    else
      call('HDEL', OPEN, id)
      call('ZREM', UNTIL, id)
    end
  end
  if #changed > 0 then write() end
  return call('ZCARD', UNTIL) > 0
end

-- Requests that are open hold on to their tree for a month from here on, which every renewal says again.
local function keep()
  call('PEXPIRE', OPEN, 30 * DAY_MS)
  call('PEXPIRE', UNTIL, 30 * DAY_MS)
  call('PEXPIRE', KEYS[1], 1200 * DAY_MS)
end

-- Whether this gateway knows the tree's epoch. If not, what it is and how it stands.
local tree = call('HMGET', KEYS[1], 'epoch', 'state')
local state = tree[2] or ''
local function other_epoch()
  return { 'epoch', tree[1] or '', state }
end
