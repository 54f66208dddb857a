-- Replaces what a request holds by what it used.
-- Wants: request, number of limits, then each limit.
-- Answers: 'ok', then peak before, used and reserved of each limit that has warning marks; 'gone'; 'epoch'.
local id, count = argument(), argument()
if tree[1] ~= epoch then return other_epoch() end
expire()

local packed = redis.call('HGET', OPEN, id)
if not packed then return { 'gone' } end
local record = cmsgpack.unpack(packed)
if record[1] == 0 then lift(record) end
redis.call('HDEL', OPEN, id)
redis.call('ZREM', UNTIL, id)

local marked, answer = {}, { 'ok' }
for _ = 1, count do
  local at = cursor
  cursor = at + 10
  local limit = {
    name = arguments[at + 1], kind = arguments[at + 2], window_start = arguments[at + 3], field = arguments[at + 4],
    kept = arguments[at + 5], ttl = arguments[at + 6], used = { arguments[at + 7], arguments[at + 8] },
    counts = arguments[at + 9] == 1, marks = arguments[at + 10] == 1,
  }
  limit.counter = COUNTERS .. limit.name
  if limit.counts and exceeds(limit.used, ZERO) then
    local cell = cell_at(limit.counter, limit.field)
    cell.used = plus(cell.used, limit.used)
    change(cell, limit.kept, limit.ttl)
  end
  if limit.marks then marked[#marked + 1] = limit end
end
-- All are asked before any peak is raised: limits can share a counter.
for _, limit in ipairs(marked) do
  local used, reserved, peak = sum(limit.counter, limit.kind, limit.window_start, limit.field)
  for _, number in ipairs({ peak[1], peak[2], used[1], used[2], reserved[1], reserved[2] }) do
    answer[#answer + 1] = number
  end
  limit.sum = used
end
for _, limit in ipairs(marked) do
  local cell = cell_at(limit.counter, limit.field)
  if not cell.is_new and exceeds(limit.sum, cell.peak) or cell.is_changed and exceeds(limit.sum, cell.peak) then
    cell.peak = limit.sum
    change(cell)
  end
end
write()
return answer
