-- Finds out a tree's epoch, or begins one if there is none or its rebuild was given up.
-- Wants: how long a rebuild may take. The epoch is the one to begin. Answers: 'ready', 'wait' or 'seed', and the epoch.
if state == 'ready' then return { 'ready', tree[1] } end
local lock = base .. 'rebuild'
if call('SET', lock, epoch, 'NX', 'PX', argument()) then
  call('HSET', KEYS[1], 'epoch', epoch, 'state', 'rebuild')
  call('PEXPIRE', KEYS[1], 1200 * DAY_MS)
  return { 'seed', epoch }
end
return { 'wait', tree[1] or '' }
