"""Streams in Redis: what is sent for each call of `State`'s. One consumer group a stream, and scripts, which happen whole.

Settled events are deleted, so what a stream holds is what waits. Events of a dead consumer are found by XPENDING and XCLAIM
rather than XAUTOCLAIM: only so is it told how often each was given, and Redis 6.2 would give deleted ones over and over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.state.base import Change

Argument = str | bytes | int

FORGOTTEN_MS: Final = 3_600_000
"""How long a consumer that holds nothing is remembered after it last asked: one that lives asks every second."""

_GROUP: Final = "learning"

_EMIT: Final = """
local most, over = tonumber(ARGV[1]), 0
if ARGV[2] == '0' and redis.call('XLEN', KEYS[1]) + #ARGV - 2 > most then return false end
for at = 3, #ARGV do redis.call('XADD', KEYS[1], '*', 'body', ARGV[at]) end
over = redis.call('XLEN', KEYS[1]) - most
if over <= 0 then return 0 end
local gone = redis.call('XTRIM', KEYS[1], 'MAXLEN', most)
redis.call('INCRBY', KEYS[2], gone)
return gone
"""

_CLAIM: Final = """
local stream, group, who, count, idle = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
local found = {}
for _, left in ipairs(redis.call('XPENDING', stream, group, 'IDLE', idle, '-', '+', count)) do
    local given = redis.call('XCLAIM', stream, group, who, idle, left[1])
    if given[1] then
        found[#found + 1] = {given[1][1], given[1][2][2], left[4] + 1}
    else
        redis.call('XACK', stream, group, left[1])
    end
end
if #found < count then
    local fresh = redis.call('XREADGROUP', 'GROUP', group, who, 'COUNT', count - #found, 'STREAMS', stream, '>')
    for _, each in ipairs(fresh and fresh[1][2] or {}) do found[#found + 1] = {each[1], each[2][2], 1} end
end
return found
"""

_SETTLE: Final = """
local stream, group, who, ids = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
for at = 4, ids + 3 do
    local held = redis.pcall('XPENDING', stream, group, ARGV[at], ARGV[at], 1, who)
    if held.err or #held == 0 or #redis.call('XRANGE', stream, ARGV[at], ARGV[at]) == 0 then return 'gone' end
end
local at = ids + 4
for key = 2, #KEYS, 2 do
    local stored = redis.call('HGET', KEYS[key], ARGV[at])
    if (stored and string.match(stored, '^%d+') or '0') ~= ARGV[at + 1] then return 'conflict' end
    at = at + 3
end
at = ids + 4
for key = 2, #KEYS, 2 do
    redis.call('HSET', KEYS[key], ARGV[at], string.format('%d', ARGV[at + 1] + 1) .. ' ' .. ARGV[at + 2])
    redis.call('ZADD', KEYS[key + 1], 0, ARGV[at])
    at = at + 3
end
for at = 4, ids + 3 do
    redis.call('XACK', stream, group, ARGV[at])
    redis.call('XDEL', stream, ARGV[at])
end
return 'done'
"""

_BACKLOG: Final = """
local stream, group = KEYS[1], ARGV[1]
local pending = redis.pcall('XPENDING', stream, group)
if not pending.err then
    for _, told in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
        local one = {}
        for at = 1, #told, 2 do one[told[at]] = told[at + 1] end
        if one.pending == 0 and one.idle > tonumber(ARGV[2]) then
            redis.call('XGROUP', 'DELCONSUMER', stream, group, one.name)
        end
    end
end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)
return {redis.call('XLEN', stream), pending.err and 0 or pending[1], first[1] and first[1][1] or '',
        redis.call('GET', KEYS[2]) or '0'}
"""

Arguments = tuple[Argument, ...]


def emit(stream: str, bodies: Sequence[bytes], most: int, make_room: bool) -> Arguments:
    return (_EMIT, 2, stream, _dropped(stream), most, int(make_room), *bodies)


def claim(stream: str, who: str, count: int, idle_seconds: float) -> Arguments:
    return (_CLAIM, 1, stream, _GROUP, who, count, int(idle_seconds * 1000))


def settle(stream: str, who: str, ids: Sequence[str], changes: Sequence[Change], documents: str) -> Arguments:
    """``documents``: with what the names of documents begin."""
    names = [name for one in changes for name in (documents + one.kind, documents + one.kind + ":ids")]
    written: list[Argument] = [each for one in changes for each in (one.id, one.version, one.body)]
    return (_SETTLE, 1 + len(names), stream, *names, _GROUP, who, len(ids), *ids, *written)


def backlog(stream: str) -> Arguments:
    return (_BACKLOG, 2, stream, _dropped(stream), _GROUP, FORGOTTEN_MS)


def _dropped(stream: str) -> str:
    return stream + ":dropped"
