-- What windows hold; counters that are being built would tell too little.
-- Wants: number of limits, then each limit. Answers: 'ok', used and reserved of each.
if tree[1] ~= epoch or state ~= 'ready' then return other_epoch() end
expire()
local answer = { 'ok' }
for _ = 1, argument() do
  local name, kind, window_start, field = argument(), argument(), argument(), argument()
  local n, uh, ul, rh, rl = #answer, sum(name, kind, window_start, field)
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = uh, ul, rh, rl
end
return answer
