-- Notes limits whose past is in their counters. Wants: number of limits, then the name of each.
if tree[1] ~= epoch then return other_epoch() end
for _ = 1, argument() do
  local name = argument()
  call('SADD', BUILT, name)
  call('DEL', prefix .. 'claim:' .. name)
end
call('PEXPIRE', BUILT, 1200 * DAY_MS)
return { 'ok' }
