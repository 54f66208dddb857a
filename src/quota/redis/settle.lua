-- Replaces what a request holds by what it used.
-- Wants: request, number of limits, then each limit.
-- Answers: 'ok', then peak before, used and reserved of each limit that has warning marks; 'gone'; 'epoch'.
local id, count = argument(), argument()
if tree[1] ~= epoch then return other_epoch() end
expire()

local packed = call('HGET', OPEN, id)
if not packed then return { 'gone' } end
local record = cmsgpack.unpack(packed)
if record[1] == 0 then lift(record) end
call('HDEL', OPEN, id)
call('ZREM', UNTIL, id)

-- The members of a limit among the arguments, counted from its place.
local NAME, KIND, START, FIELD, KEPT, TTL, USED, COUNTS, MARKS = 1, 2, 3, 4, 5, 6, 7, 9, 10
local MEMBERS = 10
local first, last = cursor, cursor + MEMBERS * (count - 1)

for at = first, last, MEMBERS do
  local uh, ul = arguments[at + USED], arguments[at + USED + 1]
  if arguments[at + COUNTS] == 1 and exceeds(uh, ul, 0, 0) then
    local cell = cell_at(arguments[at + NAME], arguments[at + FIELD])
    cell.uh, cell.ul = plus(cell.uh, cell.ul, uh, ul)
    change(cell, arguments[at + KEPT], arguments[at + TTL])
  end
end
-- All are asked before any peak is raised: limits can share a counter.
local answer = { 'ok' }
for at = first, last, MEMBERS do
  if arguments[at + MARKS] == 1 then
    local uh, ul, rh, rl, ph, pl =
      sum(arguments[at + NAME], arguments[at + KIND], arguments[at + START], arguments[at + FIELD])
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = ph, pl, uh
    answer[n + 4], answer[n + 5], answer[n + 6] = ul, rh, rl
  end
end
local n = 1
for at = first, last, MEMBERS do
  if arguments[at + MARKS] == 1 then
    local cell = cell_at(arguments[at + NAME], arguments[at + FIELD])
    local sh, sl = answer[n + 3], answer[n + 4]
    n = n + 6
    if (not cell.is_new or cell.is_changed) and exceeds(sh, sl, cell.ph, cell.pl) then
      cell.ph, cell.pl = sh, sl
      change(cell)
    end
  end
end
write()
return answer
