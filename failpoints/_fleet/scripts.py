"""What a server of a fleet does at one moment: scripts, whose keys are all in one slot of a cluster.

Each begins with `#!lua`, so that a server that has no memory left refuses it whole, unless it may run in any case.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any, Final

from coredis import Redis
from coredis.exceptions import NoScriptError


class Script:
    """A script, which a server knows by its digest once it has run it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis[str], keys: list[str], arguments: list[str | int | float]) -> Any:
        """Run it on a server, and return its reply. It may be sent twice, but runs once."""
        try:
            return await redis.evalsha(self._digest, keys, arguments)
        except NoScriptError:
            return await redis.eval(self._text, keys, arguments)


_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

LOOK: Final = Script(
    """#!lua flags=no-writes
local revision = redis.call('HGET', KEYS[1], 'revision') or ''
local document = ''
if revision ~= ARGV[1] then document = redis.call('HGET', KEYS[1], 'document') or '' end
return {redis.call('TIME'), revision, document, redis.call('HGETALL', KEYS[2]),
    redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[4])}
"""
)
"""Keys: state, members, beats, owners. Argument: the revision whose document is known."""

_CHANGE: Final = (
    _NOW
    + """
if (redis.call('HGET', KEYS[1], 'revision') or '') ~= ARGV[1] then return 0 end
local work = cjson.decode(ARGV[4])
for member, beat in pairs(work.folded) do
    if (redis.call('ZSCORE', KEYS[4], member) or '') ~= beat then return 0 end
end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'document', ARGV[3])
for _, field in ipairs(work.counted) do redis.call('HSETNX', KEYS[5], field, 0) end
for _, field in ipairs(work.uncounted) do redis.call('HDEL', KEYS[5], field) end
for _, owner in ipairs(work.owners) do redis.call('HDEL', KEYS[7], owner) end
for member in pairs(work.folded) do
    redis.call('HDEL', KEYS[3], member)
    redis.call('ZREM', KEYS[4], member)
    redis.call('HDEL', KEYS[6], member)
    redis.call('HDEL', KEYS[8], member)
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 64, '*', 'revision', ARGV[2], 'document', ARGV[3],
    'owners', cjson.encode(redis.call('HGETALL', KEYS[7])), 'now', now)
return 1
"""
)

ADD: Final = Script("#!lua" + _CHANGE)
"""Change the state, unless it is another one by now, and append it to the log.

Keys: state, log, members, beats, counts, draws, owners, reports. Arguments: the revision before and after, the
document, and what else is to be made and removed, as JSON.
"""

REMOVE: Final = Script("#!lua flags=allow-oom" + _CHANGE)
"""The same for a change that adds nothing."""

JOIN: Final = Script(
    "#!lua flags=allow-oom"
    + _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], now, ARGV[1])
return 1
"""
)
"""Keys: state, members, beats. Arguments: the member, and what it shows."""

SHOW: Final = Script(
    "#!lua flags=allow-oom"
    + _NOW
    + """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return {} end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[3], now, ARGV[1])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[5], ARGV[1], ARGV[4]) end
for i = 7, #KEYS do
    redis.call('HSET', KEYS[i], ARGV[1], ARGV[i - 2])
    redis.call('EXPIRE', KEYS[i], 600)
end
local revision = redis.call('HGET', KEYS[1], 'revision') or ''
local document = ''
if revision ~= ARGV[2] then document = redis.call('HGET', KEYS[1], 'document') or '' end
local last = redis.call('XREVRANGE', KEYS[6], '+', '-', 'COUNT', 1)
return {revision, document, cjson.encode(redis.call('HGETALL', KEYS[4])), now, last[1] and last[1][1] or '0-0'}
"""
)
"""Show what a member has, and that it is there. Returns nothing if it is not a member any more.

Keys: state, members, beats, owners, reports, log, and those of answers. Arguments: the member, the revision whose
document is known, what it shows, its report or nothing, and the answers.
"""

LEAVE: Final = Script(
    """#!lua flags=allow-oom
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
"""
)
"""Keys: beats, draws. Argument: the member."""

OWN: Final = Script(
    "#!lua flags=allow-oom"
    + _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now) .. ':' .. ARGV[2])
"""
)
"""Keys: state, owners. Arguments: the owner, and its lease in milliseconds."""

WAKE: Final = Script(
    "#!lua flags=allow-oom"
    + _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('XADD', KEYS[2], 'MAXLEN', '~', 64, '*', 'look', 1) end
return now
"""
)
"""Let every member look, and return the time. Keys: state, log."""

TAKE: Final = Script(
    """#!lua flags=allow-oom
local stored = redis.call('HGET', KEYS[2], ARGV[1])
local before, results, granted = {}, {}, nil
if stored then before = cjson.decode(stored) end
for i = 2, #ARGV, 3 do
    local result = before[ARGV[i]]
    if not result then
        local used = redis.call('HGET', KEYS[1], ARGV[i + 1])
        if used and tonumber(used) < tonumber(ARGV[i + 2]) then
            redis.call('HINCRBY', KEYS[1], ARGV[i + 1], 1)
            result = 1
        end
    end
    if result then
        granted = granted or {}
        granted[ARGV[i]] = 1
    end
    results[#results + 1] = result or 0
end
if granted then redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(granted)) end
return results
"""
)
"""Take counts, once each, however often it is sent: the draws that the latest call granted are kept.

Keys: counts, draws. Arguments: the member, and of each draw its id, the field of the count, and its limit.
"""
