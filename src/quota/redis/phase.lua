-- Moves a rebuild on. Wants: phase, how long a rebuild may give no sign.
-- 'reading': the ledger will be read now; answers 'ok' and the requests that registered before, which are not to be
-- counted from it. 'goes on': a sign. 'ready': it was read. 'failed': it could not be; another rebuild may begin in a
-- second.
if tree[1] ~= epoch then return other_epoch() end
local phase, silence = argument(), argument()
local answer = { 'ok' }
if phase == 'goes on' or phase == 'reading' then
  call('PEXPIRE', base .. 'rebuild', silence)
end
if phase == 'goes on' then return answer end
if phase == 'failed' then
  call('PEXPIRE', base .. 'rebuild', 1000)
  return answer
end
call('HSET', KEYS[1], 'state', phase)
if phase == 'reading' then
  for _, id in ipairs(call('SMEMBERS', prefix .. 'joined')) do answer[#answer + 1] = id end
else
  call('DEL', base .. 'rebuild')
end
return answer
