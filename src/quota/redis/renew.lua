-- Says that requests are still open. Wants: each request and until when. Answers: 'ok' or 'epoch'.
-- What this gateway renews late is renewed all the same, if nobody has found it expired: hence before expire().
if tree[1] ~= epoch then return other_epoch() end
for at = 3, #arguments, 2 do
  local id, expires = arguments[at], arguments[at + 1]
  local packed = call('HGET', OPEN, id)
  if packed and cmsgpack.unpack(packed)[1] == 0 then call('ZADD', UNTIL, 'XX', text(expires), id) end
end
expire()
keep()
return { 'ok' }
