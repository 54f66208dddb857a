-- Holds a request on all of its limits or on none.
-- Wants: mode, request, until, number of limits, then each limit.
-- mode: 'new'; 'more' of a request that is open; 'join' one that was admitted elsewhere, without asking whether it fits.
-- Answers: 'ok' or 'denied', limit (from 0), settled, retry, then used and reserved of each limit; 'epoch'; 'state'.
local mode, id, expires, count = argument(), argument(), argument(), argument()
if tree[1] ~= epoch or (state ~= 'ready' and mode ~= 'join') then return other_epoch() end
local others = expire()

local packed = call('HGET', OPEN, id)
local record = packed and cmsgpack.unpack(packed) or { 0 }
if mode == 'join' then
  if state == 'rebuild' then
    call('SADD', prefix .. 'joined', id)
    call('PEXPIRE', prefix .. 'joined', DAY_MS)
  end
  if packed then return { 'ok' } end
elseif (mode == 'new') == (packed and true or false) or record[1] == 1 then
  return { 'state' }
end

-- The members of a limit among the arguments, counted from its place.
local NAME, KIND, LENGTH, START, FINISH, FIELD, KEPT, TTL, NEED, MAX, ENFORCED, COUNTS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14
local MEMBERS = 14
local first, last = cursor, cursor + MEMBERS * (count - 1)

-- The moment at which enough of a rolling window's parts will have left, if ever.
local function enough_has_left(parts, eh, el, length)
  table.sort(parts, function(a, b) return a[1] < b[1] end)
  local lh, ll = 0, 0
  for _, part in ipairs(parts) do
    lh, ll = plus(lh, ll, part[2], part[3])
    if not exceeds(eh, el, lh, ll) then return part[1] + length end
  end
  return math.huge
end

local answer, refusal = { 'ok', '', '', '' }, nil
if mode ~= 'join' then
  for at = first, last, MEMBERS do
    local kind = arguments[at + KIND]
    local nh, nl = arguments[at + NEED], arguments[at + NEED + 1]
    local uh, ul, rh, rl, _, _, parts = sum(arguments[at + NAME], kind, arguments[at + START], arguments[at + FIELD])
    if arguments[at + ENFORCED] == 1 then
      local mh, ml = arguments[at + MAX], arguments[at + MAX + 1]
      local sh, sl = plus(uh, ul, nh, nl)
      local wh, wl = plus(sh, sl, rh, rl)
      if exceeds(wh, wl, mh, ml) then
        local retry = math.huge
        if exceeds(nh, nl, mh, ml) or kind == 'c' then
          retry = math.huge
        elseif kind == 'r' then
          local eh, el = minus(wh, wl, mh, ml)
          retry = enough_has_left(parts, eh, el, arguments[at + LENGTH])
        else
          retry = arguments[at + FINISH]
        end
        local is_settled = exceeds(sh, sl, mh, ml) and 1 or 0
        if not refusal or retry > refusal.retry or (retry == refusal.retry and is_settled > refusal.settled) then
          refusal = { limit = (at - first) / MEMBERS, retry = retry, settled = is_settled }
        end
      end
    end
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = uh, ul, rh, rl
  end
end
if refusal then
  answer[1], answer[2], answer[3] = 'denied', text(refusal.limit), text(refusal.settled)
  if refusal.retry < math.huge then answer[4] = text(refusal.retry) end
  return answer
end

for at = first, last, MEMBERS do
  if arguments[at + COUNTS] == 1 then
    local name, field = arguments[at + NAME], arguments[at + FIELD]
    local nh, nl = arguments[at + NEED], arguments[at + NEED + 1]
    local cell = cell_at(name, field)
    cell.rh, cell.rl = plus(cell.rh, cell.rl, nh, nl)
    change(cell, arguments[at + KEPT], arguments[at + TTL])
    local held = nil
    if mode == 'more' then
      for i = 2, #record, 4 do
        if record[i] == name and record[i + 1] == field then held = i end
      end
    end
    if held then
      record[held + 2], record[held + 3] = plus(record[held + 2], record[held + 3], nh, nl)
    else
      local n = #record
      record[n + 1], record[n + 2], record[n + 3], record[n + 4] = name, field, nh, nl
    end
  end
end
write()
call('HSET', OPEN, id, cmsgpack.pack(record))
if mode ~= 'more' then
  call('ZADD', UNTIL, text(expires), id)
  if not others then keep() end
end
return answer
