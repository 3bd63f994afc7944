"""The state in Redis, which all replicas share. Needs Redis 6.2 or later, or what speaks the same.

All names begin with ``{portcullis}:``: in a cluster the braces keep them on one server, since transactions and scripts
reach no further, so a cluster brings a standby and not more room. Ids sort by time, so each index is a sorted set whose
members all score 0 and are ranged over by their text: a page is one ``ZREVRANGEBYLEX`` and one ``MGET``, and nothing ever walks
the key space. A batch is one transaction of a handful of commands with many arguments, since each command
costs the client more than its data.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio as client
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError

from gateway.keys import DEFAULT_TENANT, StoredKey, encode_key, read_key
from gateway.records.decision_records import decode, decode_texts, encode, encode_texts, labels
from gateway.records.decisions import AnyDecision, KeptTexts, Record, first_id
from gateway.state import redis_streams
from gateway.state.base import (
    ANY,
    EXPIRE_STEP,
    Backlog,
    Change,
    Event,
    Filter,
    KeyExists,
    Page,
    Settled,
    State,
    StateUnavailable,
    Versioned,
    checked_limit,
    cursor_at,
)
from gateway.state.redis_streams import Argument
from gateway.state.redis_url import Place, read_url

ANSWER_SECONDS: Final = 2.0
"""How long to wait for a connection or an answer. Redis answers within a millisecond; longer means
trouble."""

MAX_CONNECTIONS: Final = 8
"""Connections of one worker: its recorder, its key watch, and some people in the console."""

ROWS: Final = 64
"""Records in one transaction. They are encoded on the event loop, which is held up for half a millisecond by so many."""

SCAN_STEP: Final = 250
"""Records read at a time while filtering: a quarter of a megabyte."""

MAX_SCANNED: Final = 5_000
"""Records looked at for one page; then it is returned as it is, with a cursor."""

_PREFIX: Final = "{portcullis}:"
_KEYS: Final = _PREFIX + "keys"
_REVOKED: Final = _PREFIX + "keys:revoked"
_OWNERS: Final = _PREFIX + "keys:owners"  # of keys that were made without one
_KEYS_VERSION: Final = _PREFIX + "keys:version"
_RECORD: Final = _PREFIX + "decision:"
_TEXTS: Final = _PREFIX + "texts:"
_SETTING: Final = _PREFIX + "setting:"
_INDEX: Final = _PREFIX + "decisions"
_INDEXES: Final = _PREFIX + "decisions:indexes"  # the names of all further indexes

_SWAP: Final = """
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return false end
redis.call('HSET', KEYS[1], 'value', ARGV[2], 'version', ARGV[3])
return 1
"""

_DOCUMENTS: Final = _PREFIX + "documents:"
_STREAM: Final = _PREFIX + "stream:"
_FLEETING: Final = _PREFIX + "fleeting:"
_TALLY: Final = _PREFIX + "said:"  # a hash: what each has counted

_PUT: Final = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if (stored and string.match(stored, '^%d+') or '0') ~= ARGV[2] then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. ' ' .. ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
"""

_SAY: Final = """
local found = {}
for at, name in ipairs(KEYS) do
    local said = redis.call('HGET', name, ARGV[1])
    if not said or tonumber(said) < tonumber(ARGV[at + 2]) then redis.call('HSET', name, ARGV[1], ARGV[at + 2]) end
    local all, total = redis.call('HVALS', name), 0
    if not said and #all == 1 then redis.call('PEXPIREAT', name, ARGV[2]) end
    for _, each in ipairs(all) do total = total + tonumber(each) end
    found[2 * at - 1], found[2 * at] = total, #all
end
return found
"""

Command = tuple[Argument, ...]


class RedisState(State):
    """See `State`.

    Args:
        url: as `read_url` takes it.

    Raises:
        ValueError: the URL is not usable. The message shows no credential.
    """

    def __init__(self, url: str) -> None:
        place = read_url(url)
        self.what = place.what
        self._redis: Any = _client(place)  # the two clients have no type in common
        # One call at a time to a cluster: when several find out at once that it has changed, the client (redis-py 8.1) lets
        # each of them cut the connections of the others.
        self._turns = asyncio.Semaphore(1 if place.kind == "cluster" else MAX_CONNECTIONS)
        self._closed = False

    async def ping(self) -> None:
        await self.keys_version()  # of our own slot: what answers here is what is needed

    async def close(self) -> None:
        self._closed = True
        await self._redis.aclose()

    # Keys

    async def put_key(self, key: StoredKey) -> None:
        done, _ = await self._together([("HSETNX", _KEYS, key.id, encode_key(key)), ("INCR", _KEYS_VERSION)])
        if not done:
            raise KeyExists(key.id)

    async def key(self, key_id: str) -> StoredKey | None:
        asked: list[Command] = [("HGET", name, key_id) for name in (_KEYS, _REVOKED, _OWNERS)]
        body, revoked, owner = await self._together(asked)
        return None if body is None else read_key(key_id, body, revoked, owner)

    async def keys(self) -> list[StoredKey]:
        bodies, revoked, owners = await self._together([("HGETALL", name) for name in (_KEYS, _REVOKED, _OWNERS)])
        found = (
            read_key(key_id.decode(errors="replace"), body, revoked.get(key_id), owners.get(key_id))
            for key_id, body in bodies.items()
        )
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def revoke_key(self, key_id: str, now: float) -> bool:
        if not await self._ask("HEXISTS", _KEYS, key_id):  # once there, a key stays
            return False
        await self._together([("HSETNX", _REVOKED, key_id, repr(now)), ("INCR", _KEYS_VERSION)])
        return True

    async def own_key(self, key_id: str, owner: str) -> StoredKey | None:
        if (key := await self.key(key_id)) is None or key.owner or not key.readable:
            return key
        await self._together([("HSETNX", _OWNERS, key_id, owner), ("INCR", _KEYS_VERSION)])
        return await self.key(key_id)

    async def keys_version(self) -> int:
        return int(await self._ask("GET", _KEYS_VERSION) or 0)

    # Decisions

    async def append(self, decisions: Sequence[AnyDecision], kept: Sequence[KeptTexts] = ()) -> None:
        for start in range(0, len(decisions), ROWS):
            await self._together(_writes(decisions[start : start + ROWS]))
        await self._together([
            ("SET", _TEXTS + each.id, encode_texts(each), "PXAT", int(each.expires_at * 1000)) for each in kept
        ])

    async def decision(self, decision_id: str) -> Record | None:
        body = await self._ask("GET", _RECORD + decision_id)
        return None if body is None else decode(body)

    async def decisions(self, only: Filter = ANY, limit: int = 100, cursor: str | None = None) -> Page:
        checked_limit(limit)
        low, high = only.bounds(cursor)
        index, exact = _best_index(only)
        step = limit + 1 if exact else SCAN_STEP
        says = (only.wire or "").encode(errors="replace")  # a record that does not say it need not be decoded
        found: list[Record] = []
        for _ in range(0, MAX_SCANNED, step):
            ids = await self._ask("ZREVRANGEBYLEX", index, "(" + high, "[" + low, "LIMIT", 0, step)
            bodies = await self._ask("MGET", *[_RECORD + each.decode() for each in ids]) if ids else []
            for decision_id, body in zip(ids, bodies, strict=True):
                if len(found) == limit:
                    return Page(tuple(found), cursor_at(high))
                if body is not None and says in body and only.matches(decision := decode(body)):
                    found.append(decision)
                high = decision_id.decode()
            if len(ids) < step:
                return Page(tuple(found), None)
        return Page(tuple(found), cursor_at(high))

    async def kept_texts(self, decision_id: str, now: float) -> KeptTexts | None:
        body = await self._ask("GET", _TEXTS + decision_id)
        kept = None if body is None else decode_texts(body)
        return kept if kept and now < kept.expires_at else None

    async def expire(self, now: float, before: float, keep: int) -> int:
        # Redis forgets the texts that expired by itself.
        newest_to_go = await self._ask("ZREVRANGE", _INDEX, keep, keep)
        least = max([first_id(before), *(member.decode() + "\0" for member in newest_to_go)])
        removed = 0
        while step := await self._remove_step(least):
            removed += step
        return removed

    async def _remove_step(self, least: str) -> int:
        members = await self._ask("ZRANGEBYLEX", _INDEX, "-", "(" + least, "LIMIT", 0, EXPIRE_STEP)
        if not members:
            return 0
        ids = [member.decode() for member in members]
        records = [prefix + each for prefix in (_RECORD, _TEXTS) for each in ids]
        indexes = {_INDEX.encode(), *await self._ask("SMEMBERS", _INDEXES)}
        cuts: list[Command] = [("ZREMRANGEBYLEX", index, "-", "[" + ids[-1]) for index in indexes]
        await self._together([("UNLINK", *records), *cuts])
        return len(ids)

    # Settings

    async def get(self, name: str) -> Versioned | None:
        value, version = await self._ask("HMGET", _SETTING + name, "value", "version")
        return None if value is None else Versioned(value, int(version))

    async def swap(self, name: str, value: bytes, version: int) -> int | None:
        done = await self._ask("EVAL", _SWAP, 1, _SETTING + name, version, value, version + 1)
        return version + 1 if done else None

    # Documents: a hash of "VERSION BODY" by id, and their ids in order

    async def put(self, kind: str, id: str, body: bytes, version: int) -> int | None:
        names = (_DOCUMENTS + kind, _DOCUMENTS + kind + ":ids")
        done = await self._ask("EVAL", _PUT, 2, *names, id, version, body, version + 1)
        return version + 1 if done else None

    async def document(self, kind: str, id: str) -> Versioned | None:
        stored = await self._ask("HGET", _DOCUMENTS + kind, id)
        return None if stored is None else _versioned(stored)

    async def documents(self, kind: str, limit: int = 100, before: str | None = None) -> list[tuple[str, Versioned]]:
        end = "+" if before is None else "(" + before
        step = checked_limit(limit)
        ids = await self._ask("ZREVRANGEBYLEX", _DOCUMENTS + kind + ":ids", end, "-", "LIMIT", 0, step)
        stored = await self._ask("HMGET", _DOCUMENTS + kind, *ids) if ids else []
        pairs = zip(ids, stored, strict=True)
        return [(id.decode(), _versioned(body)) for id, body in pairs if body is not None]

    async def remove(self, kind: str, id: str) -> bool:
        removed, _ = await self._together([("HDEL", _DOCUMENTS + kind, id), ("ZREM", _DOCUMENTS + kind + ":ids", id)])
        return bool(removed)

    # Fleeting values and tallies: Redis forgets them by itself

    async def put_fleeting(self, values: Mapping[str, bytes], expires_at: float) -> None:
        at = int(expires_at * 1000)
        await self._together([("SET", _FLEETING + name, value, "PXAT", at) for name, value in values.items()])

    async def fleeting(self, names: Sequence[str], now: float) -> list[bytes | None]:
        found: list[bytes | None] = await self._ask("MGET", *[_FLEETING + name for name in names]) if names else []
        return found

    async def tally(self, who: str, values: Mapping[str, int], expires_at: float) -> list[tuple[int, int]]:
        names = [_TALLY + name for name in values]
        found = await self._ask("EVAL", _SAY, len(names), *names, who, int(expires_at * 1000), *values.values())
        if not isinstance(found, list) or len(found) != 2 * len(names) or not all(type(each) is int for each in found):
            raise StateUnavailable(self.what, "it answered something else than was asked")
        return list(zip(found[::2], found[1::2], strict=True))

    # Streams

    async def emit(self, stream: str, bodies: Sequence[bytes], now: float, most: int, *, make_room: bool) -> int | None:
        gone = await self._ask("EVAL", *redis_streams.emit(_STREAM + stream, bodies, most, make_room))
        return None if gone is None else int(gone)

    async def claim(self, stream: str, who: str, count: int, idle_seconds: float, now: float) -> list[Event]:
        found = await self._ask("EVAL", *redis_streams.claim(_STREAM + stream, who, count, idle_seconds))
        return [Event(id.decode(), body, int(deliveries)) for id, body, deliveries in found]

    async def settle(self, stream: str, who: str, ids: Sequence[str], changes: Sequence[Change] = ()) -> Settled:
        said: bytes = await self._ask("EVAL", *redis_streams.settle(_STREAM + stream, who, ids, changes, _DOCUMENTS))
        return Settled(said.decode())

    async def backlog(self, stream: str, now: float) -> Backlog:
        length, pending, first, dropped = await self._ask("EVAL", *redis_streams.backlog(_STREAM + stream))
        oldest = max(0.0, now - int(first.partition(b"-")[0]) / 1000) if first else 0.0
        return Backlog(max(0, length - pending), pending, oldest, int(dropped))

    # The door

    async def _ask(self, *command: Argument) -> Any:
        async with self._door():
            return await self._redis.execute_command(*command)

    async def _together(self, commands: list[Command]) -> list[Any]:
        """The answers to commands that all happen or none."""
        async with self._door(), self._redis.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute()
            return answers

    @asynccontextmanager
    async def _door(self) -> AsyncIterator[None]:
        if self._closed:
            raise StateUnavailable(self.what, "it was closed")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise StateUnavailable(self.what, "the calls before this one wait for an answer") from None
        try:
            yield
        except DataError:  # our mistake
            raise
        except (RedisError, OSError) as error:
            raise StateUnavailable(self.what, str(error) or type(error).__name__) from error
        finally:
            self._turns.release()


def _client(place: Place) -> client.Redis | RedisCluster:
    """A client, which connects with its first command."""
    common: dict[str, Any] = {
        "ssl": place.tls, "socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS,
        # Nothing is sent twice behind our back: a swap that was done already would look like somebody else's. Connections
        # that the server closed meanwhile are noticed and replaced when they are taken up.
        "retry": Retry(NoBackoff(), 0),
    }  # fmt: skip
    own: dict[str, Any] = {**common, **place.options}
    if place.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in place.hosts]
        return RedisCluster(startup_nodes=nodes, **own)
    own["db"] = place.database
    if place.kind == "sentinel":
        watchers: Any = Sentinel(place.hosts, sentinel_kwargs={**common, **place.sentinel_options})  # type: ignore[no-untyped-call]
        found: client.Redis = watchers.master_for(place.service, **own)
        return found
    if place.socket:
        return client.Redis(unix_socket_path=place.socket, **own)
    [(host, port)] = place.hosts
    return client.Redis(host=host, port=port, **own)


def _writes(decisions: Sequence[AnyDecision]) -> list[Command]:
    # In bytes: the client looks at every argument, and at bytes only once.
    records: list[bytes] = []
    indexes: dict[str, list[bytes]] = defaultdict(list)
    for decision in decisions:
        member = decision.id.encode()
        records += (_RECORD.encode() + member, encode(decision))
        for name in _indexes(decision):
            indexes[name] += (b"0", member)
    additions: list[Command] = [("ZADD", name, *members) for name, members in indexes.items()]
    return [("MSET", *records), ("SADD", _INDEXES, *indexes), *additions]


def _indexes(decision: AnyDecision) -> list[str]:
    names = [_INDEX]
    if decision.tenant != DEFAULT_TENANT:
        names.append(f"{_INDEX}:tenant:{decision.tenant}")
    if decision.action != "allow":
        names.append(f"{_INDEX}:action:{decision.action}")
    return names + [f"{_INDEX}:label:{label}" for label in labels(decision)]


def _best_index(only: Filter) -> tuple[str, bool]:
    """The index with the fewest records, and whether every record in it is wanted.

    What is true of nearly every decision has no index of its own: the wire, the default tenant, being allowed.
    """
    asked = {"label": only.category, "action": only.action, "tenant": only.tenant, "wire": only.wire}
    given = {kind: value for kind, value in asked.items() if value is not None}
    for kind, value in given.items():
        if kind != "wire" and (kind, value) not in (("action", "allow"), ("tenant", DEFAULT_TENANT)):
            return f"{_INDEX}:{kind}:{value}", len(given) == 1
    return _INDEX, not given


def _versioned(stored: bytes) -> Versioned:
    version, _, body = stored.partition(b" ")
    return Versioned(body, int(version))


