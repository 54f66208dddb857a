-- What windows hold. Wants: number of limits, then each limit. Answers: 'ok', used and reserved of each.
if tree[1] ~= epoch then return other_epoch() end
expire()
local answer = { 'ok' }
for _ = 1, argument() do
  local name, kind, window_start, field = argument(), argument(), argument(), argument()
  local used, reserved = sum(COUNTERS .. name, kind, window_start, field)
  for _, number in ipairs({ used[1], used[2], reserved[1], reserved[2] }) do
    answer[#answer + 1] = number
  end
end
return answer
