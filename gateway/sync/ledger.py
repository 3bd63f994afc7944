"""The ledger: what a replica holds, as its peers see it, with digests by which two of them find where they differ.

Ids fall into `BUCKETS` buckets by their hash; a bucket's digest is over the fingerprints in it, and the root's over the
buckets'. That is a Merkle tree of depth two: equal roots mean equal stores, and where they differ a comparison of buckets
leads to the few entries that do. It needs no memory of who saw what, so it is right after any loss, relay or restart. Who
remembers up to where he held all asks for what came later first (`vector`), which costs what was missed.

Tombstones count among what is exchanged up to a *horizon* only. Older ones are in no digest and no listing, and no newcomer
gets them; who holds one keeps it, as the pattern's history, and answers with it whoever brings an older revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from gateway.sync.frames import BUCKET_DIGEST, BUCKETS, MAX_MARKS, Listed, Mark
from gateway.sync.vector import Reached, Vector, later
from patterns.clock import Stamp
from patterns.entries import Entry, encode

EMPTY: Final = bytes(BUCKET_DIGEST)
"""The digest of a bucket with nothing in it."""


HORIZON_DAYS: Final = 30
"""Age from which tombstones are no longer exchanged. One number for all, in whole days of UTC, so that replicas whose clocks
are minutes off agree but for these minutes."""

MAX_REPEATED: Final = 256
"""Entries that a peer may send although they are here: they weigh what the comparison of buckets does."""

_DAY_MS: Final = 86_400_000


class Held(NamedTuple):
    """One entry as it travels. ``fingerprint`` is over all of it, the signature included; ``tomb`` where it is a removal."""

    raw: bytes
    fingerprint: bytes
    stamp: Stamp
    tomb: bool


def fingerprint(raw: bytes) -> bytes:
    """Names an encoded entry: 16 bytes of BLAKE2b."""
    return blake2b(raw, digest_size=16).digest()


def bucket_of(identity: str) -> int:
    """The bucket that an id falls into, the same on every node."""
    return blake2b(identity.encode(), digest_size=1).digest()[0]


class Ledger:
    """All entries that a replica holds. Its length, buckets and digests are without tombstones beyond the horizon."""

    def __init__(self, entries: Iterable[Entry] = (), now: float = 0.0, node: str = "") -> None:
        """``now``: UNIX seconds, from which the horizon is reckoned. ``node``: whose ledger it is."""
        self._held: dict[str, Held] = {}
        self._tombs: dict[str, int] = {}  # on this side of the horizon: when each was made, in milliseconds
        self._retired = 0  # tombstones beyond it
        self._horizon_ms = _horizon_ms(now)
        self._buckets: list[dict[str, None]] = [{} for _ in range(BUCKETS)]
        self._digests: list[bytes] = [EMPTY] * BUCKETS
        self._stale: set[int] = set()
        self._root = b""
        self._vector = Vector(node)
        for entry in entries:
            self.put(entry)
        self.agree()  # what stands in a store came before it was closed, as a rule all of it

    def __len__(self) -> int:
        return len(self._held) - self._retired

    def get(self, identity: str) -> Held | None:
        """What is held of an id, a tombstone beyond the horizon too."""
        return self._held.get(identity)

    def beyond(self, stamp: Stamp) -> bool:
        """Whether a tombstone of this time is beyond the horizon."""
        return stamp.wall_ms < self._horizon_ms

    def advance(self, now: float) -> None:
        """Let the horizon follow the time; call it now and then."""
        horizon = _horizon_ms(now)
        if horizon < self._horizon_ms:  # a clock that was ahead was set right
            for identity, held in self._held.items():
                if held.tomb and horizon <= held.stamp.wall_ms < self._horizon_ms:
                    self._join(identity, held)
                    self._retired -= 1
        self._horizon_ms = horizon
        for identity in [identity for identity, wall_ms in self._tombs.items() if wall_ms < horizon]:
            self._leave(identity)
            self._retired += 1

    def put(self, entry: Entry) -> Held | None:
        """Note an entry as the one that stands; None where this very one was held before."""
        raw = encode(entry)
        known = self._held.get(entry.id)
        if known is not None and known.raw == raw:
            return None
        if known is not None and known.tomb and self.beyond(known.stamp):
            self._retired -= 1
        self._vector.note(entry.stamp)
        held = self._held[entry.id] = Held(raw, fingerprint(raw), entry.stamp, entry.pattern is None)
        self._leave(entry.id)
        if held.tomb and self.beyond(held.stamp):
            self._retired += 1
            return held
        self._join(entry.id, held)
        return held

    @property
    def root(self) -> bytes:
        """The digest of everything: 16 bytes."""
        if self._stale or not self._root:
            self._refresh()
            self._root = blake2b(b"".join(self._digests), digest_size=16).digest()
        return self._root

    @property
    def tree(self) -> bytes:
        """The digests of all buckets, one after another."""
        if self._stale:
            self._refresh()
            self._root = b""
        return b"".join(self._digests)

    def differing(self, tree: bytes) -> list[tuple[int, bool]]:
        """The buckets that differ from another ledger's ``tree``, and whether they are empty there."""
        ours, found = self.tree, []
        for bucket in range(BUCKETS):
            at = slice(bucket * BUCKET_DIGEST, (bucket + 1) * BUCKET_DIGEST)
            if ours[at] != tree[at]:
                found.append((bucket, tree[at] == EMPTY))
        return found

    def ids(self, bucket: int) -> list[str]:
        return list(self._buckets[bucket])

    def listing(self, bucket: int) -> list[Listed]:
        """What is held in one bucket."""
        return [
            Listed(identity, held.fingerprint, held.stamp.wall_ms, held.stamp.counter, held.stamp.node)
            for identity in self._buckets[bucket]
            for held in (self._held[identity],)
        ]

    def compare(self, bucket: int, theirs: Iterable[Listed]) -> tuple[list[str], list[str]]:
        """What to ask for and what to send, so that both sides of a bucket become the same.

        Entries with one stamp and two contents go both ways: each side then keeps the same one of the two. So does what was
        taken back on either side: a listing does not tell.
        """
        want: list[str] = []
        send: list[str] = []
        listed: set[str] = set()
        for item in theirs:
            listed.add(item.id)
            held = self._held.get(item.id)
            if held is None:
                want.append(item.id)
                continue
            if held.fingerprint == item.fingerprint:
                continue
            want.append(item.id)
            if Stamp(item.wall_ms, item.counter, item.node) <= held.stamp:
                send.append(item.id)
        send += [identity for identity in self._buckets[bucket] if identity not in listed]
        return want, send

    # Version vectors

    def agree(self) -> None:
        """A peer holds the same as this."""
        self._vector.agree(self.root)

    def marks(self) -> list[Mark] | None:
        """The version vector; None where comparing buckets is cheaper: it has too many nodes, or so much came since it was
        raised that a peer would send all that again."""
        whole = self._vector.whole()
        if len(whole) > MAX_MARKS or (whole != self._vector.latest and len(self._later(whole)) > MAX_REPEATED):
            return None
        return [Mark(node, wall_ms, counter) for node, (wall_ms, counter) in whole.items()]

    def since(self, marks: Iterable[Mark]) -> list[str]:
        """The ids of what is exchanged and later than a version vector, oldest first."""
        return self._later({mark.node: (mark.wall_ms, mark.counter) for mark in marks})

    def _later(self, than: Mapping[str, Reached]) -> list[str]:
        held = self._held
        return later(((identity, held[identity].stamp) for bucket in self._buckets for identity in bucket), than)

    def _join(self, identity: str, held: Held) -> None:
        """Let an id be among what is exchanged."""
        if held.tomb:
            self._tombs[identity] = held.stamp.wall_ms
        bucket = bucket_of(identity)
        self._buckets[bucket][identity] = None
        self._stale.add(bucket)

    def _leave(self, identity: str) -> None:
        """Take an id out of what is exchanged."""
        bucket = bucket_of(identity)
        self._tombs.pop(identity, None)
        self._buckets[bucket].pop(identity, None)
        self._stale.add(bucket)

    def _refresh(self) -> None:
        for bucket in self._stale:
            members = sorted(self._held[identity].fingerprint for identity in self._buckets[bucket])
            self._digests[bucket] = blake2b(b"".join(members), digest_size=BUCKET_DIGEST).digest() if members else EMPTY
        self._stale.clear()


def _horizon_ms(now: float) -> int:
    days = int(now * 1000) // _DAY_MS - HORIZON_DAYS
    return max(days, 0) * _DAY_MS
