-- Holds a request on all of its limits or on none.
-- Wants: mode, request, until, number of limits, then each limit.
-- mode: 'new'; 'more' of a request that is open; 'join' one that was admitted elsewhere, without asking whether it fits.
-- Answers: 'ok' or 'denied', limit (from 0), settled, retry, then used and reserved of each limit; 'epoch'; 'state'.
local mode, id, expires, count = argument(), argument(), argument(), argument()
if tree[1] ~= epoch or (state ~= 'ready' and mode ~= 'join') then return other_epoch() end
expire()

local packed = redis.call('HGET', OPEN, id)
local record = packed and cmsgpack.unpack(packed) or { 0 }
if mode == 'join' then
  if state == 'rebuild' then
    redis.call('SADD', prefix .. 'joined', id)
    redis.call('PEXPIRE', prefix .. 'joined', DAY_MS)
  end
  if packed then return { 'ok' } end
elseif (mode == 'new') == (packed and true or false) or record[1] == 1 then
  return { 'state' }
end

local limits, answer, refusal = {}, { 'ok', '', '', '' }, nil
for i = 1, count do
  local at = cursor
  cursor = at + 14
  local limit = {
    name = arguments[at + 1], kind = arguments[at + 2], length = arguments[at + 3],
    window_start = arguments[at + 4], window_end = arguments[at + 5], field = arguments[at + 6],
    kept = arguments[at + 7], ttl = arguments[at + 8], need = { arguments[at + 9], arguments[at + 10] },
    max = { arguments[at + 11], arguments[at + 12] }, enforced = arguments[at + 13] == 1,
    counts = arguments[at + 14] == 1,
  }
  limits[i] = limit
  limit.counter = COUNTERS .. limit.name
  if mode ~= 'join' then
    local used, reserved, _, parts = sum(limit.counter, limit.kind, limit.window_start, limit.field)
    local settled = plus(used, limit.need)
    local wanted = plus(settled, reserved)
    if limit.enforced and exceeds(wanted, limit.max) then
      local retry = math.huge
      if exceeds(limit.need, limit.max) or limit.kind == 'c' then
        retry = math.huge
      elseif limit.kind == 'r' then
        table.sort(parts, function(a, b) return a[1] < b[1] end)
        local left, excess = ZERO, minus(wanted, limit.max)
        for _, part in ipairs(parts) do
          left = plus(left, part[2])
          if not exceeds(excess, left) then
            retry = part[1] + limit.length
            break
          end
        end
      else
        retry = limit.window_end
      end
      local is_settled = exceeds(settled, limit.max) and 1 or 0
      if not refusal or retry > refusal.retry or (retry == refusal.retry and is_settled > refusal.settled) then
        refusal = { limit = i - 1, retry = retry, settled = is_settled }
      end
    end
    at = #answer
    answer[at + 1], answer[at + 2], answer[at + 3], answer[at + 4] = used[1], used[2], reserved[1], reserved[2]
  end
end
if refusal then
  answer[1], answer[2], answer[3] = 'denied', text(refusal.limit), text(refusal.settled)
  if refusal.retry < math.huge then answer[4] = text(refusal.retry) end
  return answer
end

for _, limit in ipairs(limits) do
  if limit.counts then
    local cell = cell_at(limit.counter, limit.field)
    cell.reserved = plus(cell.reserved, limit.need)
    change(cell, limit.kept, limit.ttl)
    local held = nil
    if mode == 'more' then
      for at = 2, #record, 4 do
        if record[at] == limit.name and record[at + 1] == limit.field then held = at end
      end
    end
    if held then
      local sum_held = plus({ record[held + 2], record[held + 3] }, limit.need)
      record[held + 2], record[held + 3] = sum_held[1], sum_held[2]
    else
      local at = #record
      record[at + 1], record[at + 2], record[at + 3], record[at + 4] = limit.name, limit.field, limit.need[1], limit.need[2]
    end
  end
end
write()
redis.call('HSET', OPEN, id, cmsgpack.pack(record))
if mode ~= 'more' then
  redis.call('ZADD', UNTIL, text(expires), id)
  if redis.call('ZCARD', UNTIL) == 1 then keep() end
end
return answer
