-- Takes a tree's limits into force. Which of them have their past in this epoch's counters is kept in `built`.
-- Wants: number of limits, then of each: its name in `built`, counter, its kind, field ('' for all of it), and the name under
-- which its past use is booked.
-- Answers: 'ok', then for each limit 1 if the caller is to give it its past, else 0.
-- While another gateway builds the tree, its counters hold what others have registered: they are not to be begun anew.
if tree[1] ~= epoch or state ~= 'ready' then return other_epoch() end
local answer, known = { 'ok' }, {}
for _, name in ipairs(call('SMEMBERS', BUILT)) do known[name] = false end
for _ = 1, argument() do
  local built, name, _, field, once = argument(), argument(), argument(), argument(), argument()
  local is_new = known[built] == nil
  known[built] = true
  -- Of gateways that take it into force at the same time, one gives it its past.
  if is_new and call('SET', prefix .. 'claim:' .. built, '1', 'NX', 'PX', 60000) then
    -- What lies there is from before it was gone, and lacks what was used since.
    if field == '' then call('DEL', COUNTERS .. name) else call('HDEL', COUNTERS .. name, field) end
    call('DEL', prefix .. 'once:' .. once)
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end
-- Those that are gone. Another gateway may still hold requests to them: their counters stay as long as they are used.
for name, is_there in pairs(known) do
  if not is_there then call('SREM', BUILT, name) end
end
return answer
