-- Says that requests are still open. ARGV: epoch, latest, then each request and until when. Answers: 'ok' or 'epoch'.
-- What this gateway renews late is renewed all the same, if nobody has found it expired: hence before expire().
if tree[1] ~= epoch then return other_epoch() end
for at = 3, #ARGV, 2 do
  local packed = redis.call('HGET', OPEN, ARGV[at])
  if packed and cmsgpack.unpack(packed)[1] == 0 then redis.call('ZADD', UNTIL, 'XX', ARGV[at + 1], ARGV[at]) end
end
expire()
return { 'ok' }
