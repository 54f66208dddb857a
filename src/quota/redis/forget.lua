-- Forgets limits that are gone. Wants: number of limits, then of each: counter, its kind, field ('' for all of it), and the
-- name under which its past use was booked.
if tree[1] ~= epoch then return other_epoch() end
for _ = 1, argument() do
  local name, _, field, once = argument(), argument(), argument(), argument()
  if field == '' then call('DEL', COUNTERS .. name) else call('HDEL', COUNTERS .. name, field) end
  call('DEL', prefix .. 'once:' .. once)
end
return { 'ok' }
