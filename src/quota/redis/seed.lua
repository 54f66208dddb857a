-- Adds use that no reservation stands for.
-- Wants: a name under which this is done once or '', number of limits, then each limit.
if tree[1] ~= epoch then return other_epoch() end
local once, count = argument(), argument()
if once ~= '' and not call('SET', prefix .. 'once:' .. once, '1', 'NX', 'PX', 400 * DAY_MS) then return { 'ok' } end
for _ = 1, count do
  local name, kind, window_start, field = argument(), argument(), argument(), argument()
  local kept, ttl, hi, lo = argument(), argument(), argument(), argument()
  local cell = cell_at(name, field)
  cell.uh, cell.ul = plus(cell.uh, cell.ul, hi, lo)
  change(cell, kept, ttl)
  -- Warnings up to here were given when this use was new.
  local uh, ul = sum(name, kind, window_start, field)
  if exceeds(uh, ul, cell.ph, cell.pl) then cell.ph, cell.pl = uh, ul end
end
write()
return { 'ok' }
