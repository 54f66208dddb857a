-- Adds use that no reservation stands for.
-- ARGV: epoch, latest, a name under which this is done once or '', number of limits, then each limit.
if tree[1] ~= epoch then return other_epoch() end
local once, count = argument(), tonumber(argument())
if once ~= '' and not redis.call('SET', prefix .. 'once:' .. once, '1', 'NX', 'PX', 400 * DAY_MS) then return { 'ok' } end
for _ = 1, count do
  local name, kind, window_start, field = argument(), argument(), tonumber(argument()), argument()
  local kept, ttl, units = tonumber(argument()), argument(), amount(argument(), argument())
  local counter = prefix .. 'n:' .. name
  local cell = cell_for(counter, field, kept)
  cell.used = plus(cell.used, units)
  put(counter, field, cell)
  redis.call('PEXPIRE', counter, ttl)
  -- Warnings up to here were given when this use was new.
  local used = sum(counter, kind, window_start, field)
  if exceeds(used, cell.peak) then
    cell.peak = used
    put(counter, field, cell)
  end
end
return { 'ok' }
