-- Adds use that no reservation stands for.
-- Wants: a name under which this is done once or '', number of limits, then each limit.
if tree[1] ~= epoch then return other_epoch() end
local once, count = argument(), argument()
if once ~= '' and not redis.call('SET', prefix .. 'once:' .. once, '1', 'NX', 'PX', 400 * DAY_MS) then return { 'ok' } end
for _ = 1, count do
  local name, kind, window_start, field = argument(), argument(), argument(), argument()
  local kept, ttl, units = argument(), argument(), { argument(), argument() }
  local counter = COUNTERS .. name
  local cell = cell_at(counter, field)
  cell.used = plus(cell.used, units)
  change(cell, kept, ttl)
  -- Warnings up to here were given when this use was new.
  local used = sum(counter, kind, window_start, field)
  if exceeds(used, cell.peak) then cell.peak = used end
end
write()
return { 'ok' }
