-- Gives up a tree's counters: whoever needs them builds them anew, as if Redis had lost them. What they counted ends with its
-- time, like all counters.
local old = base .. (tree[1] or '') .. ':'
call('DEL', KEYS[1], base .. 'rebuild', old .. 'open', old .. 'until', old .. 'joined', old .. 'built')
return { 'ok' }
